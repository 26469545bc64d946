"""Learned state: single values that survive restarts."""

import pytest

from tests.builders.series import START
from trimtab.engine.errors import LockedError
from trimtab.engine.store import open_store
from trimtab.engine.store.learned_state import LearnedState


def test_values_survive_a_restart(tmp_path):
    """The newest value is returned after the store was closed and reopened."""
    store = open_store(tmp_path, lambda: START)
    memory = LearnedState(store.fenced)
    assert memory.get("a") is None
    memory.set("a", {"x": [1, None, "é"]})
    memory.set("b", 1)
    memory.set("b", False)
    store.close()
    store = open_store(tmp_path, lambda: START)
    memory = LearnedState(store.fenced)
    assert (memory.get("a"), memory.get("b")) == ({"x": [1, None, "é"]}, False)
    with pytest.raises(ValueError, match="not JSON compliant"):
        memory.set("a", float("nan"))
    store.close()


def test_an_older_engine_cannot_write(tmp_path):
    """An engine whose lease was taken over changes nothing."""
    url = f"sqlite:///{tmp_path}/x.db"
    from trimtab.engine.store.event_store import EventStore

    old = EventStore(url, lambda: START, epoch=1).open()
    new = EventStore(url, lambda: START, epoch=2).open()
    with pytest.raises(LockedError):
        LearnedState(old.fenced).set("a", 1)
    assert LearnedState(new.fenced).get("a") is None
    old.close()
    new.close()

"""Slots of series ids."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trimtab.models.errors import ModelError
from trimtab.models.slots import Slots


class SlotsMachine(RuleBasedStateMachine):
    """Adds and removes series in any order and compares the slots with a dict."""

    def __init__(self):
        super().__init__()
        self.slots = Slots(capacity=2)
        self.model = {}
        self.n_used = 0

    @rule(name=st.text("abcdefgh", min_size=1, max_size=2))
    def add(self, name):
        version, capacity = self.slots.version, self.slots.capacity
        free = set(range(self.n_used)) - set(self.model.values())
        slot = self.slots.add(name)
        if name in self.model:
            assert slot == self.model[name]
            assert self.slots.version == version
            return
        assert slot == (min(free) if free else self.n_used), "the lowest free slot, else the next new one"
        assert self.slots.version == version + 1
        assert self.slots.capacity in {capacity, 2 * capacity}
        self.model[name] = slot
        self.n_used = max(self.n_used, slot + 1)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data):
        name = data.draw(st.sampled_from(sorted(self.model)))
        version = self.slots.version
        assert self.slots.remove(name) == self.model.pop(name)
        assert self.slots.version == version + 1

    @rule(name=st.text("xyz", min_size=3, max_size=3))
    def refuse_the_unknown(self, name):
        for method in (self.slots.slot, self.slots.remove):
            with pytest.raises(ModelError, match=name):
                method(name)

    @invariant()
    def agrees(self):
        assert len(self.slots) == len(self.model)
        assert {name: self.slots.slot(name) for name in self.slots} == self.model
        assert [self.slots.slot(name) for name in self.slots.series_ids()] == sorted(self.model.values())
        assert all(self.slots.series_id(slot) == name for name, slot in self.model.items())
        assert self.n_used <= self.slots.capacity < max(3, 2 * self.n_used + 1)


TestSlotTable = SlotsMachine.TestCase
TestSlotTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, database=None)


def test_slots_follow_the_order_of_arrival():
    """Series get consecutive slots in the order in which they are added."""
    slots = Slots()
    assert slots.extend(f"s{k}" for k in range(1000)) == list(range(1000))
    assert slots.capacity == 1024
    assert slots.series_ids()[:3] == ["s0", "s1", "s2"]
    assert "s999" in slots
    assert slots.series_id(999) == "s999"
    assert slots.series_id(1000) is None


def test_capacity_must_be_positive():
    """A capacity of 0 raises ModelError with the value."""
    with pytest.raises(ModelError, match="capacity is 0"):
        Slots(0)

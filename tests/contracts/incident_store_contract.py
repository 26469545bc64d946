"""Contract of every incident store; subclasses provide the fixture `url`."""

from dataclasses import replace
from math import inf

import pytest

from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ids_of, ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import LockedError, NotFoundError
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.store.incident_store import IncidentStore
from trimtab.engine.types import (
    Change,
    ChangeKind,
    Incident,
    IncidentState,
    PatternMatch,
    Severity,
    Suspect,
)

SUSPECT = Suspect(
    "0" * 32, 'redis_evicted_keys{job="redis"}', "redis/cache-1", 0.6, START, inf, "It moved first."
)
CACHE_THRASH = PatternMatch(
    "cache_thrash", "redis/cache-1", 0.9, START, ("Hit ratio fell to 31 %.",), ("0" * 32,)
)


def make_incident(number, **changed):
    """Return an open incident of one cache."""
    incident = Incident(
        id=ulid(number), start=START, end=None, state=IncidentState.OPEN,
        title="cache-1: evictions far above usual", severity=0.5, level=Severity.MEDIUM, user_facing=False,
        mass=False, entities=("redis/cache-1",), anomaly_ids=(ulid(100), ulid(101)), suspects=(SUSPECT,),
        patterns=(CACHE_THRASH,), change_ids=(ulid(7),), similar=(ulid(3),), acknowledged_by="ann",
        note="Büro",
    )  # fmt: skip
    return replace(incident, **changed)


def make_change(number, **changed):
    """Return a deploy event."""
    change = Change(ulid(number), START, ChangeKind.DEPLOY, "web 1.4", "ci", {"job": "web"}, "https://ci/1")
    return replace(change, **changed)


class IncidentStoreContract:
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def events(self, url, clock):
        opened = EventStore(url, clock.now, epoch=1).open()
        yield opened
        opened.close()

    @pytest.fixture
    def store(self, events):
        return IncidentStore(events.fenced)

    def test_an_incident_is_read_as_saved(self, store):
        """A stored incident has every field, including suspects, patterns and infinite values."""
        saved = make_incident(1)
        store.save_incidents([saved])
        assert store.incident(saved.id) == saved
        minimal = make_incident(2, suspects=(), patterns=(), end=START + 5, merged_into=saved.id)
        store.save_incidents([minimal])
        assert store.incident(minimal.id) == minimal

    def test_saving_an_incident_again_updates_it(self, store):
        """Saving an incident with a stored id updates its row and its search text."""
        store.save_incidents([make_incident(1)])
        store.save_incidents(
            [make_incident(1, state=IncidentState.RESOLVED, end=START + 5, note="restarted")]
        )
        assert [(i.state, i.note) for i in store.incidents()] == [(IncidentState.RESOLVED, "restarted")]
        assert store.incidents(search="büro") == []
        assert ids_of(store.incidents(search="restarted")) == [ulid(1)]

    def test_several_incidents_are_saved_atomically(self, store):
        """If one incident cannot be stored, none is."""
        with pytest.raises((TypeError, ValueError)):
            store.save_incidents([make_incident(1), make_incident(2, severity="much")])
        assert store.incidents() == []
        store.save_incidents([])

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, [4, 3, 2, 1]),  # without the merged one
            ({"state": IncidentState.RESOLVED}, [2]),
            ({"open_only": True}, [4, 3, 1]),
            ({"since": START + 20 * SECOND}, [4, 3, 1]),  # excludes incidents that ended earlier
            ({"until": START + 10 * SECOND}, [1]),
            ({"pattern": "cache_thrash"}, [4, 2, 1]),
            ({"pattern": "cache"}, []),  # only full names match
            ({"min_severity": 0.7}, [3]),
            ({"search": "CACHE-1 evictions"}, [4, 2, 1]),  # every word, case-insensitive
            ({"search": "büro"}, [4, 3, 2, 1]),
            ({"search": "hit ratio 31 %"}, [4, 2, 1]),  # text of the evidence; % is literal
            ({"search": "c_che"}, []),
            ({"after": ulid(3)}, [2, 1]),
            ({"limit": 1}, [4]),
            ({"open_only": True, "pattern": "cache_thrash", "after": ulid(4)}, [1]),
        ],
    )
    def test_filters_narrow_the_list(self, store, filters, expected):
        """Incidents are filtered by each parameter and by several together."""
        later = START + 10 * SECOND
        store.save_incidents(
            [
                make_incident(1),
                make_incident(2, start=later, end=START + 15 * SECOND, state=IncidentState.RESOLVED),
                make_incident(
                    3, start=later, severity=0.9, title="web: slow", entities=("web/a",), patterns=(),
                    suspects=(),
                ),
                make_incident(4, start=later, state=IncidentState.ACKNOWLEDGED),
                make_incident(5, start=later, merged_into=ulid(4)),
            ]
        )  # fmt: skip
        assert ids_of(store.incidents(**filters)) == [ulid(i) for i in expected]

    def test_changes_are_listed_newest_first(self, store):
        """Change events are filtered by time and paged, newest first; saving one again updates it."""
        for number in range(1, 6):
            store.save_change(make_change(number, time=START + number))
        store.save_change(make_change(3, time=START + 3, title="web 1.5"))
        assert ids_of(store.changes()) == [ulid(i) for i in (5, 4, 3, 2, 1)]
        assert ids_of(store.changes(since=START + 2, until=START + 4)) == [ulid(3), ulid(2)]
        assert ids_of(store.changes(after=ulid(4), limit=2)) == [ulid(3), ulid(2)]
        assert store.changes(since=START + 3, until=START + 4) == [
            make_change(3, time=START + 3, title="web 1.5")
        ]

    def test_an_unknown_id_is_not_found(self, store):
        """NotFoundError names the id."""
        with pytest.raises(NotFoundError, match="'nobody'"):
            store.incident("nobody")

    def test_a_stale_engine_writes_nothing(self, store, url, clock):
        """After a takeover, every write of the older engine raises LockedError."""
        newer = EventStore(url, clock.now, epoch=2).open()
        for write in (
            lambda: store.save_incidents([make_incident(1)]),
            lambda: store.save_change(make_change(1)),
        ):
            with pytest.raises(LockedError, match="taken over by another engine"):
                write()
        assert store.incidents() == []
        assert store.changes() == []
        newer.close()

    def test_saved_rows_survive_a_restart(self, store, events, url, clock):
        """Stored rows are read after the store is closed and reopened."""
        store.save_incidents([make_incident(1)])
        store.save_change(make_change(1))
        events.close()
        reopened = EventStore(url, clock.now, epoch=2).open()
        assert IncidentStore(reopened.fenced).incident(ulid(1)) == make_incident(1)
        assert IncidentStore(reopened.fenced).changes() == [make_change(1)]
        reopened.close()

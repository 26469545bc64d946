"""Contract of every event store; subclasses provide the fixture `url`."""

from dataclasses import replace
from math import inf, isnan, nan

import pytest

from tests.builders.series import SECOND, START, anomaly_of
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import LockedError, NotFoundError
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import ApiKey, Direction, Feedback, SeriesInfo, SeriesKey, Verdict

CPU = SeriesKey.of("host", "cpu_busy_ratio", {"core": "1"})
DISK = SeriesKey.of("prometheus", "node_disk_io_50%_time", {"device": "sda", "job": "Büro"})


def ulid(number: int) -> str:
    """Return a valid ULID that sorts by the number."""
    return f"01K{number:023d}"


def ids_of(records):
    """Return the ids of these records."""
    return [record.id for record in records]


class EventStoreContract:
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def store(self, url, clock):
        opened = EventStore(url, clock.now, epoch=1).open()
        yield opened
        opened.close()

    def test_an_anomaly_is_read_as_saved(self, store):
        """A stored anomaly has every field; NaN and infinity are preserved."""
        saved = anomaly_of(
            CPU, ulid(1), end=START + 9, score=inf, lower=-inf, detectors=("a", "b"), reason="x"
        )
        store.save_anomaly(saved)
        assert store.anomaly(saved.id) == saved
        store.save_anomaly(replace(saved, id=ulid(2), value=nan, expected=nan))
        unknown = store.anomaly(ulid(2))
        assert isnan(unknown.value)
        assert isnan(unknown.expected)

    def test_saving_an_anomaly_again_updates_it(self, store):
        """Saving an anomaly with a stored id updates its row."""
        store.save_anomaly(anomaly_of(CPU, ulid(1)))
        store.save_anomaly(anomaly_of(CPU, ulid(1), end=START + 5, reason="recovered"))
        assert [(a.end, a.reason) for a in store.anomalies()] == [(START + 5, "recovered")]

    def test_ended_anomalies_are_deleted_oldest_first(self, store):
        """Ended anomalies are deleted with their feedback, up to the limit; open anomalies stay."""
        store.save_anomaly(anomaly_of(CPU, ulid(0), start=START - SECOND))
        for i in range(1, 6):
            store.save_anomaly(anomaly_of(CPU, ulid(i), end=START + i))
            store.save_feedback(Feedback(ulid(i), Verdict.RIGHT, "", "joe", START))
        assert [store.delete_ended(START + 4, 2) for _ in range(3)] == [2, 1, 0]
        assert ids_of(store.anomalies()) == [ulid(5), ulid(4), ulid(0)]
        assert store.feedback(ulid(1)) == []
        assert len(store.feedback(ulid(4))) == 1

    def test_ended_keys_with_a_prefix_are_deleted(self, store):
        """Expired or revoked keys with these prefixes are deleted; all other keys stay."""
        rows = [
            ("ts_a", 10, None), ("ts_b", None, 10), ("ts_c", 99, None), ("ts_d", None, None),
            ("tl_e", 10, 5), ("tt_f", 10, 10), ("txs_g", 10, None),
        ]  # fmt: skip
        for i, (prefix, expires, revoked) in enumerate(rows):
            store.save_key(ApiKey(ulid(i), prefix, prefix, f"{i:064}", ("read",), i, expires, revoked))
        assert store.delete_keys(("ts_", "tl_"), 50, 2) == 2
        assert store.delete_keys(("ts_", "tl_"), 50, 2) == 1
        remaining = store.keys()
        assert [key.name for key in remaining] == ["ts_c", "ts_d", "tt_f", "txs_g"]

    def test_several_anomalies_are_saved_atomically(self, store):
        """If one anomaly cannot be stored, none is."""
        store.save_anomalies(anomaly_of(CPU, ulid(i)) for i in (1, 2, 1))
        with pytest.raises(ValueError, match="int"):
            store.save_anomalies([anomaly_of(CPU, ulid(3)), anomaly_of(CPU, ulid(4), start="yesterday")])
        assert [a.id for a in store.anomalies()] == [ulid(2), ulid(1)]

    def test_pages_have_no_gap_or_repeat(self, store):
        """Pages are newest first by id; `after` continues after the last id of the previous page."""
        store.save_anomalies(anomaly_of(CPU, ulid(i)) for i in range(25))
        pages, after = [], None
        while page := store.anomalies(after=after, limit=10):
            pages.append([a.id for a in page])
            after = page[-1].id
        assert [len(page) for page in pages] == [10, 10, 5]
        assert [i for page in pages for i in page] == [ulid(i) for i in reversed(range(25))]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, [4, 3, 2, 1]),
            ({"series_id": CPU.id}, [2, 1]),
            ({"source": "prometheus"}, [4, 3]),
            ({"open_only": True}, [4, 1]),
            ({"since": START + 20}, [4, 3, 1]),  # excludes anomalies that ended earlier
            ({"until": START + 10}, [1]),  # exclusive
            ({"min_score": 3.0}, [4, 3]),
            ({"direction": "below"}, [3]),
            ({"search": "CPU"}, [2, 1]),
            ({"search": 'busy core="1"'}, [2, 1]),  # every word
            ({"search": "busy sda"}, []),
            ({"search": "büro"}, [4, 3]),  # case-insensitive, also beyond ASCII
            ({"search": "50%_t"}, [4, 3]),  # SQL wildcards are literal
            ({"search": "5_%"}, []),
            ({"search": "  "}, [4, 3, 2, 1]),
            ({"source": "host", "open_only": True, "search": "cpu", "after": ulid(2)}, [1]),
        ],
    )
    def test_filters_narrow_the_list(self, store, filters, expected):
        """Anomalies are filtered by each parameter and by several together."""
        store.save_anomalies(
            [
                anomaly_of(CPU, ulid(1), score=1.0),
                anomaly_of(CPU, ulid(2), score=2.0, start=START + 10, end=START + 19),
                anomaly_of(
                    DISK, ulid(3), score=3.0, start=START + 10, end=START + 20, direction=Direction.BELOW
                ),
                anomaly_of(DISK, ulid(4), score=4.0, start=START + 10),
            ]
        )
        assert [a.id for a in store.anomalies(**filters)] == [ulid(i) for i in expected]

    def test_an_unknown_id_is_not_found(self, store):
        """NotFoundError names the id."""
        with pytest.raises(NotFoundError, match="'nobody'"):
            store.anomaly("nobody")
        with pytest.raises(NotFoundError, match="'nothing'"):
            store.series("nothing")
        with pytest.raises(NotFoundError, match="'nobody'"):
            store.save_feedback(Feedback("nobody", Verdict.RIGHT, "", "me", START))

    def test_feedback_is_one_per_author(self, store):
        """Later feedback of an author replaces the earlier one; feedback is listed oldest first."""
        store.save_anomaly(anomaly_of(CPU, ulid(1)))
        for time, author, verdict in ((1, "ann", "right"), (2, "bob", "wrong"), (3, "ann", "wrong")):
            store.save_feedback(Feedback(ulid(1), Verdict(verdict), "noted", author, time))
        stored = [(f.author, f.verdict, f.time, f.note) for f in store.feedback(ulid(1))]
        assert stored == [("bob", "wrong", 2, "noted"), ("ann", "wrong", 3, "noted")]
        assert store.feedback(ulid(2)) == []

    def test_keys_include_revoked_and_expired_ones(self, store):
        """Keys are listed oldest first; saving a key again updates it."""
        first = ApiKey("k1", "grafana", "tt_abc", "0" * 64, ("read", "ingest"), START, START + 5)
        second = replace(first, id="k2", hash="1" * 64, created=START + 1, expires=None)
        store.save_key(second)
        store.save_key(first)
        store.save_key(replace(first, revoked=START + 3))
        assert store.keys() == [replace(first, revoked=START + 3), second]

    def test_a_response_is_stored_for_a_day(self, store, clock):
        """A response is stored by key and route for a day; then the key can be used again."""
        store.save_response("a", "/api/pause", 201, b"\x00{}", clock.now())
        assert store.stored_response("a", "/api/pause") == (201, b"\x00{}")
        assert store.stored_response("a", "/api/keys") is None
        clock.tick(86_401)
        assert store.stored_response("a", "/api/pause") is None
        store.save_response("a", "/api/pause", 409, b"", clock.now())
        assert store.stored_response("a", "/api/pause") == (409, b"")

    def test_series_are_stored_and_updated(self, store):
        """More than a thousand series are stored at once; a later save updates their metadata."""
        keys = [SeriesKey.of("host", "m", {"i": str(i), "name": 'a"\\\n'}) for i in range(1200)]
        store.save_series(SeriesInfo(key) for key in keys)
        store.save_series([SeriesInfo(keys[7], "bytes", "rate", "how much"), SeriesInfo(keys[8])])
        assert store.series(keys[7].id) == SeriesInfo(keys[7], "bytes", "rate", "how much")
        assert store.series(keys[1199].id) == SeriesInfo(keys[1199])

    def test_a_stale_engine_writes_nothing(self, store, url, clock):
        """After a takeover, every write of the older engine raises LockedError, and its health reports it."""
        store.save_anomaly(anomaly_of(CPU, ulid(1)))
        newer = EventStore(url, clock.now, epoch=2).open()
        refused = [
            lambda: store.save_anomaly(anomaly_of(CPU, ulid(2))),
            lambda: store.save_series([SeriesInfo(CPU)]),
            lambda: store.save_feedback(Feedback(ulid(1), Verdict.RIGHT, "", "me", START)),
            lambda: store.save_key(ApiKey("k", "n", "p", "h", (), START)),
            lambda: store.save_response("a", "b", 200, b"", START),
        ]
        for write in refused:
            with pytest.raises(LockedError, match="taken over by another engine"):
                write()
        assert "taken over" in store.health_problem()
        newer.save_anomaly(anomaly_of(CPU, ulid(3)))
        assert [a.id for a in newer.anomalies()] == [ulid(3), ulid(1)]
        assert newer.keys() == []
        assert newer.health_problem() is None
        newer.close()

    def test_an_older_epoch_cannot_open_the_store(self, store, url, clock):
        """Opening a store with an older epoch raises LockedError with both epochs."""
        EventStore(url, clock.now, epoch=5).open().close()
        with pytest.raises(LockedError, match="with epoch 5, this engine has epoch 4"):
            EventStore(url, clock.now, epoch=4).open()
        assert store.highest_epoch() == 5

    def test_a_command_writes_with_the_stored_epoch(self, store, url, clock):
        """A store opened without an epoch does not lock out the engine."""
        command_store = EventStore(url, clock.now)
        command_store.save_key(ApiKey("k", "n", "p", "h", ("read",), START))
        command_store.close()
        assert ids_of(store.keys()) == ["k"]
        store.save_anomaly(anomaly_of(CPU, ulid(1)))
        assert store.health_problem() is None

    def test_saved_rows_survive_a_restart(self, store, url, clock):
        """Stored rows are read after the store is closed and reopened."""
        store.save_anomaly(anomaly_of(CPU, ulid(1), peak_time=START + SECOND))
        store.close()
        reopened = EventStore(url, clock.now, epoch=2).open()
        assert reopened.anomaly(ulid(1)).peak_time == START + SECOND
        reopened.close()

"""Runs recordings through detection tick by tick, and measures precision and recall of the patterns."""

from dataclasses import dataclass, field

from tests.recordings.library import TICK_S
from trimtab.engine.detection.source_detector import SourceDetector
from trimtab.engine.detection.tick_assembler import ClosedTick
from trimtab.engine.patterns.pattern_recognizer import PatternRecognizer
from trimtab.engine.types import Change, ChangeKind


def never_replaced(_gone, _came):
    """No series replaces another."""
    return False


def matches_by_tick(recording):
    """Yield (tick, matches) for each tick of a recording, as found live."""
    senses = SourceDetector("prometheus", TICK_S, never_replaced)
    by_key = {info.key: info for info in recording.infos}
    patterns = PatternRecognizer(TICK_S, by_key.__getitem__)
    times, keys = recording.times, recording.keys
    changes = [
        Change(f"change-{tick}", int(times[tick]), ChangeKind.DEPLOY, title, "tests", dict(labels))
        for tick, title, labels in recording.changes
    ]
    for tick, (time, values) in enumerate(zip(times.tolist(), recording.values, strict=True)):
        result = senses.step(ClosedTick(time, keys, values, complete=True))
        yield tick, patterns.step(time, result.keys, result.scores, result.open_ids, changes)


def first_matches(recording):
    """Return pattern -> (tick, match) of its first match, before and after the onset."""
    early, found = {}, {}
    for tick, matches in matches_by_tick(recording):
        for match in matches:
            which = early if recording.onset is None or tick < recording.onset else found
            which.setdefault(match.name, (tick, match))
    return early, found


@dataclass
class PatternTally:
    """Results of one pattern.

    right, missed : recordings that show it, recognized or not; wrong : reports that are not true
    """

    right: int = 0
    missed: int = 0
    wrong: int = 0
    delays: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def recall(self):
        """Share of recordings with the pattern in which it was recognized."""
        return self.right / max(self.right + self.missed, 1)

    @property
    def precision(self):
        """Share of reports that were true."""
        return self.right / max(self.right + self.wrong, 1)


def tally_patterns(recordings):
    """Return the tally by pattern, and (recording, pattern) reported for healthy recordings."""
    from trimtab.engine.patterns.pattern_rules import RULES

    tallies = {name: PatternTally() for name in RULES}
    alarms = []
    for recording in recordings:
        early, found = first_matches(recording)
        if recording.onset is None:
            alarms += [(recording.name, name, at, match.evidence) for name, (at, match) in early.items()]
        for name in recording.shows:
            tally = tallies[name]
            if name in found and name not in early:
                tally.right += 1
                tally.delays.append(found[name][0] - recording.onset)
            else:
                tally.missed += 1
                tally.names.append(f"{recording.name} missed{' (told too early)' if name in early else ''}")
        true = {*recording.shows, *recording.may}
        for name in {**early, **found}:
            if name in early or name not in true:
                tallies[name].wrong += 1
                tallies[name].names.append(f"{recording.name} wrongly at {(early | found)[name][0]}")
    return tallies, alarms


def report(title, recordings):
    """Return the results as text, the tallies, and the false alarms."""
    recordings = list(recordings)
    tallies, alarms = tally_patterns(recordings)
    healthy = sum(r.onset is None for r in recordings)
    lines = [
        f"{title}: {len(recordings)} recordings, {healthy} healthy, {sum(r.real for r in recordings)} real"
    ]
    for name, t in tallies.items():
        delay = sorted(t.delays)[len(t.delays) // 2] if t.delays else "-"
        lines.append(
            f"  {name:28} recall {t.recall:.2f} ({t.right}/{t.right + t.missed})  "
            f"precision {t.precision:.2f} "
            f"(wrong {t.wrong})  median delay {delay} ticks"
        )
    lines.append(f"  healthy recordings with a pattern: {len({a[0] for a in alarms})} of {healthy}")
    return "\n".join(lines), tallies, alarms

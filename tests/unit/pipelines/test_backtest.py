"""What the live scorer and alarms tell of a recording, held against what is known of it."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from trimtab.engine.cli.main import app
from trimtab.models.calibration.alarms import alarm_intervals
from trimtab.pipelines.backtest import backtest
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.scoring.score import score

ROWS, BURST = 2000, range(1500, 1510)


def recording(series=("cpu", "disk")):
    """Noise a minute, long; the first series bursts."""
    rng = np.random.default_rng(5)
    parts = []
    for name in series:
        y = rng.normal(50, 2, ROWS)
        if name == series[0]:
            y[BURST] += 80
        parts.append(pd.DataFrame({"unique_id": name, "ds": np.arange(ROWS), "y": y}))
    return pd.concat(parts, ignore_index=True)


LABELS = pd.DataFrame({"unique_id": ["cpu", "disk"], "start": [1499, 1499], "end": [1510, 1510]})


def test_alarms_are_those_of_the_same_scores_live():
    """Every alarm is one that the scores of `trimtab.score` open, with its begin, end and peak."""
    told = backtest(recording())
    assert not told.labelled
    scored = score(recording())
    for name, part in scored.groupby("unique_id"):
        times = part["ds"].to_numpy() * 60_000_000_000
        wanted = alarm_intervals(part[["anomaly_score"]].to_numpy(), times)
        assert [(a.start, a.end, a.score) for a in told.alarms if a.series == name] == [w[1:] for w in wanted]


def test_events_are_found_with_their_delay_or_missed():
    """The burst is found a minute after its window began; what did not happen is missed."""
    told = backtest(recording(), LABELS)
    assert [event.delay_s for event in told.events] == [60.0, None]
    assert (told.found_ratio, told.median_delay_s) == (0.5, 60.0)
    false = [alarm for alarm in told.alarms if alarm.event is None]
    assert told.false_alarms_per_week == pytest.approx(len(false) / told.weeks)
    assert 0.35 < told.weeks < 0.4
    assert 0.9 < told.coverage <= 1.0


def test_a_recording_may_mark_its_own_events():
    """A column label says where it is not 0; of a wide table it is of all series."""
    long = recording(("cpu",))
    wide = long.rename(columns={"y": "cpu"}).drop(columns="unique_id")
    for frame in (long, wide):
        told = backtest(frame.assign(label=[int(k in BURST) for k in range(ROWS)]))
        assert [(event.delay_s, event.end) for event in told.events] == [(0.0, 1509 * 60_000_000_000)]


@pytest.mark.parametrize(
    ("labels", "words"),
    [({"start": [1]}, "no column end"), ({"start": [5], "end": [4]}, "ends before it starts")],
)
def test_labels_that_make_no_sense_are_told(labels, words):
    """The message says what is missing or wrong."""
    with pytest.raises(InputError, match=words):
        backtest(recording(("cpu",)), pd.DataFrame(labels))


@pytest.mark.parametrize(("least", "code"), [("0.5", 0), ("0.9", 1)])
def test_the_command_writes_a_report_and_says_whether_it_is_good(tmp_path, least, code):
    """A report with picture, events and alarms; names are no markup; too few found is exit code 1."""
    source, known = tmp_path / "load.csv", tmp_path / "known.csv"
    recording(("cpu*", "disk")).to_csv(source, index=False)
    LABELS.replace({"cpu": "cpu*"}).to_csv(known, index=False)
    more = ["--labels", str(known), "--least-found", least, "--false-alarms-per-week", "10"]
    done = CliRunner().invoke(app, ["backtest", str(source), *more])
    assert done.exit_code == code, done.output
    folder = tmp_path / "load.backtest"
    text = (folder / "report.md").read_text()
    assert "| events found | 1 of 2 |" in text
    assert r"| cpu\* |" in text
    assert "missed" in text
    assert (folder / "series.png").read_bytes().startswith(b"\x89PNG")

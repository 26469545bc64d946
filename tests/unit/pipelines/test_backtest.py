"""Backtest of detection on labelled and unlabelled recordings."""

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


def make_recording(series=("cpu", "disk")):
    """Return a long table of noise, one row per minute; the first series has a burst."""
    rng = np.random.default_rng(5)
    parts = []
    for name in series:
        y = rng.normal(50, 2, ROWS)
        if name == series[0]:
            y[BURST] += 80
        parts.append(pd.DataFrame({"unique_id": name, "ds": np.arange(ROWS), "y": y}))
    return pd.concat(parts, ignore_index=True)


LABELS = pd.DataFrame({"unique_id": ["cpu", "disk"], "start": [1499, 1499], "end": [1510, 1510]})


def test_alarms_match_the_scores():
    """The alarms are those that the scores of `trimtab.score` open, with start, end and peak."""
    result = backtest(make_recording())
    assert not result.labelled
    scored = score(make_recording())
    for name, part in scored.groupby("unique_id"):
        times = part["ds"].to_numpy() * 60_000_000_000
        expected = alarm_intervals(part[["anomaly_score"]].to_numpy(), times)
        assert [(a.start, a.end, a.score) for a in result.alarms if a.series == name] == [
            w[1:] for w in expected
        ]


def test_events_are_found_or_missed():
    """An event with a burst is found with its delay; an event without one is missed."""
    result = backtest(make_recording(), LABELS)
    assert [event.delay_s for event in result.events] == [60.0, None]
    assert (result.found_ratio, result.median_delay_s) == (0.5, 60.0)
    false_alarms = [alarm for alarm in result.alarms if alarm.event is None]
    assert result.false_alarms_per_week == pytest.approx(len(false_alarms) / result.weeks)
    assert 0.35 < result.weeks < 0.4
    assert 0.9 < result.coverage <= 1.0


def test_label_column_marks_events():
    """Nonzero values in a label column are events; in a wide table they apply to all series."""
    long = make_recording(("cpu",))
    wide = long.rename(columns={"y": "cpu"}).drop(columns="unique_id")
    for frame in (long, wide):
        result = backtest(frame.assign(label=[int(k in BURST) for k in range(ROWS)]))
        assert [(event.delay_s, event.end) for event in result.events] == [(0.0, 1509 * 60_000_000_000)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [({"start": [1]}, "no column end"), ({"start": [5], "end": [4]}, "ends before it starts")],
)
def test_invalid_labels_are_refused(labels, message):
    """Invalid labels raise an error that states what is missing or wrong."""
    with pytest.raises(InputError, match=message):
        backtest(make_recording(("cpu",)), pd.DataFrame(labels))


@pytest.mark.parametrize(("least", "code"), [("0.5", 0), ("0.9", 1)])
def test_command_writes_report_and_checks_found_ratio(tmp_path, least, code):
    """The report has plot, events and escaped names; too few found events exit with 1."""
    source, label_file = tmp_path / "load.csv", tmp_path / "known.csv"
    make_recording(("cpu*", "disk")).to_csv(source, index=False)
    LABELS.replace({"cpu": "cpu*"}).to_csv(label_file, index=False)
    options = ["--labels", str(label_file), "--least-found", least, "--false-alarms-per-week", "10"]
    run = CliRunner().invoke(app, ["backtest", str(source), *options])
    assert run.exit_code == code, run.output
    folder = tmp_path / "load.backtest"
    text = (folder / "report.md").read_text()
    assert "| events found | 1 of 2 |" in text
    assert r"| cpu\* |" in text
    assert "missed" in text
    assert (folder / "series.png").read_bytes().startswith(b"\x89PNG")

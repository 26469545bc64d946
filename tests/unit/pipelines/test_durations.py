"""Durations as text: what is accepted in options and settings, and what is refused."""

import pytest

from trimtab.engine.settings.section import seconds
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.durations import parse_duration_s, positive_duration_s


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("500ms", 0.5), ("15s", 15.0), ("1m", 60.0), ("1h30m", 5400.0), ("1.5h", 5400.0),
        (" 14d ", 1_209_600.0), ("2w", 1_209_600.0), ("90", 90.0), ("0.5", 0.5),
    ],
)  # fmt: skip
def test_prometheus_durations_are_accepted(text, expected_s):
    """Options and settings accept a Prometheus duration, compound or not, and a plain number of seconds."""
    assert (parse_duration_s(text), seconds(text), positive_duration_s(text, "since")) == (
        expected_s,
        expected_s,
        expected_s,
    )


@pytest.mark.parametrize("text", ["", "soon", "5x", "5 parsecs", "1h30", "m", "5M", "9" * 30 + "d"])
def test_other_text_is_refused(text):
    """Text that is not a duration is an error that names it and shows what to write."""
    with pytest.raises(ValueError, match="is not a duration; write 500ms"):
        parse_duration_s(text)
    with pytest.raises(InputError, match=r"since: .* is not a duration above 0; write 500ms"):
        positive_duration_s(text, "since")


@pytest.mark.parametrize("value", [0, -5, "-5m", "nan", "inf", float("inf")])
def test_only_durations_above_zero_are_options(value):
    """Zero, negative and infinite durations are refused."""
    with pytest.raises(InputError, match="is not a duration above 0"):
        positive_duration_s(value, "since")

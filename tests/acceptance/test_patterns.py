"""Pattern recognition on all labelled recordings: development set and held-out set."""

import pytest

from tests.recordings.judge import report
from tests.recordings.sets import development, held_out

MIN_ACCURACY = 0.9
"""Least recall and precision of each pattern."""


@pytest.mark.trials
@pytest.mark.parametrize("recordings", [development, held_out], ids=["development", "held out"])
def test_patterns_are_recognised(recordings):
    """Each pattern reaches the required recall and precision, and healthy recordings raise no alarm."""
    text, tallies, alarms = report(recordings.__name__, recordings())
    print(text)
    weak = {
        name: tally for name, tally in tallies.items() if min(tally.recall, tally.precision) < MIN_ACCURACY
    }
    assert weak == {}, text
    assert alarms == [], text

"""Event scores: full at the start of an event, close to 1 while it lasts."""

import numpy as np
import pytest

from trimtab.models.calibration.alarms import CLOSE_AT, alarm_intervals
from trimtab.models.calibration.event_score import (
    FADE_PER_SAMPLE,
    MAX_ONGOING_EXCESS,
    WORSENING_RATIO,
    event_score,
    learn_event_score,
)
from trimtab.models.calibration.tail_probability import QUIET_TICKS
from trimtab.models.detectors.level_shift import WINDOW_SAMPLES
from trimtab.models.scorer import Scorer

MINUTE_NS = 60 * 10**9


def reported_scores(scores):
    """Return the event scores of consecutive calibrated scores."""
    state, out = (np.zeros(1), np.zeros(1)), []
    for score in scores:
        out.append(event_score(0, score, *state))
        learn_event_score(0, score, *state)
    return np.array(out)


CASES = [
    ([0.2, 3.0], [0.2, 3.0], "the first score of an event is unchanged"),
    ([3.0, 3.0, 2.0], [3.0, 1 + 0.2 / 2.1, 1 + 0.1 / 1.1], "an ongoing event stays just above 1"),
    ([2.0, 2.19, 2.2], [2.0, 1 + 0.119 / 1.29, 2.2], "a score worse by a tenth is unchanged"),
    ([2.0, 2.2, 2.3], [2.0, 2.2, 1 + 0.13 / 1.4], "the worst score so far counts, not the first"),
    (
        [3.0, 0.1, 0.1],
        [3.0, CLOSE_AT * FADE_PER_SAMPLE, CLOSE_AT * FADE_PER_SAMPLE**2],
        "the score fades after the event",
    ),
    ([3.0, 0.95], [3.0, 0.95], "the event score is not below the score"),
    (
        [3.0] + [0.0] * 200 + [3.0],
        [3.0, *(CLOSE_AT * FADE_PER_SAMPLE ** np.arange(1, 201)), 3.0],
        "after a long time a new event starts",
    ),
]


@pytest.mark.parametrize(("scores", "expected", "rule"), CASES, ids=[row[2] for row in CASES])
def test_event_scores(scores, expected, rule):
    """A score is unchanged if it starts an event or makes it worse."""
    np.testing.assert_allclose(reported_scores(scores), expected, rtol=1e-12, err_msg=rule)


def test_event_state_fades_to_zero():
    """After a long quiet time the score is exactly 0, without subnormal numbers."""
    assert reported_scores([50.0] + [0.0] * 3000)[-1] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_event_scores_keep_the_alarms(seed):
    """Event scores open and close the same alarms, and the first peak changes by at most a tenth."""
    rng = np.random.default_rng(seed)
    raw = np.abs(rng.normal(0.5, 0.4, 20_000)) * np.repeat(rng.choice([1.0, 1.0, 3.0], 2000), 10)
    t = np.arange(len(raw))
    before, after = alarm_intervals(raw[:, None], t), alarm_intervals(reported_scores(raw)[:, None], t)
    assert len(before) > 100
    assert [alarm[:3] for alarm in before] == [alarm[:3] for alarm in after]
    assert before[0][3] / WORSENING_RATIO <= after[0][3] <= before[0][3]


def test_scorer_scores_an_outage_fully_once():
    """An outage has its full score at the start, stays just above 1, and fades at its end."""
    x = np.random.default_rng(1).normal(10, 1, (1100, 1))
    x[1000:1030] += 40
    scores = Scorer(1, 60).run(x, np.arange(1100, dtype=np.int64) * MINUTE_NS).anomaly_score[:, 0]
    last = np.flatnonzero(scores > 1)[-1]
    assert scores[1000:1003].max() > 2
    assert (
        (scores[1003 + QUIET_TICKS : 1030] > 1) & (scores[1003 + QUIET_TICKS : 1030] < 1 + MAX_ONGOING_EXCESS)
    ).all()
    assert 1029 <= last < 1030 + WINDOW_SAMPLES
    fade = CLOSE_AT * FADE_PER_SAMPLE ** np.arange(1, 1100 - last)
    assert ((scores[last + 1 :] >= fade - 1e-12) & (scores[last + 1 :] < 1)).all()


def test_masked_sample_starts_no_event():
    """A masked sample, as in a maintenance window, does not reduce the score of the next one."""
    x = np.random.default_rng(1).normal(10, 1, (1002, 1))
    x[1000:] = 60.0
    t = np.arange(1002, dtype=np.int64) * MINUTE_NS
    scorer = Scorer(1, 60)
    scorer.run(x[:1000], t[:1000])
    masked = scorer.step(x[1000], int(t[1000]), np.zeros(1, np.bool_))
    after = scorer.step(x[1001], int(t[1001]))
    assert masked.anomaly_score[0] == pytest.approx(after.anomaly_score[0])
    assert after.anomaly_score[0] > 2

"""Resampling of a history to a panel, in batches."""

from tests.builders.model_store import load_history
from trimtab.pipelines.io import panel


def test_batch_size_does_not_change_the_panel(monkeypatch):
    """The batch size does not change a panel, even if a batch ends within a step."""
    frame = load_history(days=3, step_s=900.0)
    expected = panel.panel_from_history(frame, 3600.0, window_s=2 * 86_400.0)
    monkeypatch.setattr(panel, "_BATCH_SAMPLES", 7)
    parts = panel.panel_from_history(frame, 3600.0, window_s=2 * 86_400.0)
    assert parts.panel.y.shape == (48, 3)
    assert parts.fingerprint() == expected.fingerprint()

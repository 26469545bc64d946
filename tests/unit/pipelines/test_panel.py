"""A history as a panel, laid on its grid in parts."""

from tests.builders.model_store import load_history
from trimtab.pipelines.io import panel


def test_a_panel_is_the_same_however_many_samples_are_laid_at_once(monkeypatch):
    """Parts that end within a series, and within a step of it, add up to the same means."""
    frame = load_history(days=3, step_s=900.0)
    whole = panel.panel_from_history(frame, 3600.0, window_s=2 * 86_400.0)
    monkeypatch.setattr(panel, "_AT_ONCE", 7)
    parts = panel.panel_from_history(frame, 3600.0, window_s=2 * 86_400.0)
    assert parts.panel.y.shape == (48, 3)
    assert parts.fingerprint() == whole.fingerprint()

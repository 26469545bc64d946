"""Catalogue of detectors."""

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from trimtab.models import catalogue
from trimtab.models.detectors.ew_zscore import EwZscore
from trimtab.models.errors import ModelError, UnknownModelError


def test_every_name_loads():
    """Every name of the catalogue resolves to a class."""
    for name in catalogue.DETECTORS:
        assert isinstance(catalogue.detector_class(name), type)
    assert set(catalogue.DETECTORS) <= set(catalogue.detector_names())


def test_parameters_reach_the_detector():
    """Parameters are passed to the detector's constructor."""
    bank = catalogue.detector("ew_zscore", n_series=1000, fading_factor=0.5)
    assert isinstance(bank, EwZscore)
    assert (bank.n_series, bank.fading_factor) == (1000, 0.5)


def test_unknown_name_suggests_the_nearest():
    """An unknown name raises an error with all names and the nearest match."""
    with pytest.raises(UnknownModelError, match=r"'ew_zscor'.*Did you mean 'ew_zscore'.*range_exceedance"):
        catalogue.detector("ew_zscor", n_series=1)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ew_zscore", {"alpha": 0.5}, "alpha"),
        ("ew_zscore", {"fading_factor": 0.0}, "fading_factor is 0.0"),
        ("ew_zscore", {"min_samples": 0}, "min_samples is 0"),
        ("half_space_trees", {"height": 40}, "height is 40"),
        ("half_space_trees", {"window_size": 3}, "window_size is 3"),
        ("half_space_trees", {"limits": (1.0, 1.0)}, "limits are"),
        ("river", {"model": "KMeans"}, "anomaly.LODA"),
    ],
)
def test_invalid_parameters_are_refused(name, given, message):
    """An unknown or invalid parameter raises an error with its name and value."""
    with pytest.raises(ModelError, match=message):
        catalogue.detector(name, n_series=1, **given)


def test_finds_detectors_of_other_packages(monkeypatch):
    """An entry point of another package is found by name, but does not override a built-in name."""
    points = EntryPoints(
        EntryPoint(name, "trimtab.models.detectors.ew_zscore:EwZscore", catalogue.DETECTOR_GROUP)
        for name in ("theirs", "level_shift")
    )
    monkeypatch.setattr(catalogue, "entry_points", points.select)
    assert "theirs" in catalogue.detector_names()
    assert isinstance(catalogue.detector("theirs", n_series=1), EwZscore)
    assert catalogue.detector_class("level_shift") is not EwZscore


def test_river_is_imported_by_its_members_only():
    """Neither the catalogue nor a bank imports river; only a river detector does."""
    program = (
        "import sys; from trimtab.models.catalogue import detector, detector_names; detector_names(); "
        "detector('ew_zscore', n_series=1); detector('half_space_trees', n_series=1); "
        "import trimtab.models.river_bank; sys.exit('river' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_river_prefix_selects_river_detectors():
    """river:NAME is river's detector, with a scaler for half-space trees; an unknown name raises an error."""
    trees = catalogue.detector("river:HalfSpaceTrees", 2)
    assert (trees.n_series, trees.name) == (2, "river:HalfSpaceTrees")
    assert "MinMaxScaler" in str(trees.prototype)
    assert "LODA" in str(catalogue.detector("river:anomaly.LODA", 1).prototype)
    with pytest.raises(UnknownModelError, match="river has no detector or forecaster 'Nobody'"):
        catalogue.detector("river:Nobody", 1)

"""The worked examples of CONTRIBUTING.md do what it says."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit import test_contract_detectors as contract
from trimtab.models.contracts import Detector

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
"""Path that an example would have -> its text."""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A function that imports an example under the file name that it says."""

    def loaded(path):
        file = tmp_path / Path(path).name
        file.write_text(EXAMPLES[path])
        spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return loaded


def test_the_detector_keeps_the_contract(load):
    """The example of a detector scores before it learns, finds a jump, and scoring changes nothing."""
    made = load("models/detectors/jump.py").Jump(contract.N)
    assert isinstance(made, Detector)
    x, t = contract.series()
    past = made.run(x, t)
    assert np.isfinite(past[-100:]).any()
    calm = np.where(np.isnan(x[-1]), 7.0, x[-1])
    wild = calm + 1000.0
    before = {name: array.copy() for name, array in made.state().items()}
    statistic = made.score(wild, int(t[-1]) + contract.STEP_NS)
    assert all(np.array_equal(before[name], array) for name, array in made.state().items())
    known = np.isfinite(statistic)
    assert known.any()
    assert (statistic[known] > 20).all()


def test_the_catalogue_line_has_the_form_of_the_others():
    """The line that CONTRIBUTING.md shows is one that the catalogue could hold."""
    name, home = re.search(r'^    "(\w+)": "([\w.]+:\w+)",$', TEXT, re.MULTILINE).groups()
    assert home == f"trimtab.models.detectors.{name}:{name.title()}"

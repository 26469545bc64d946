"""A user's own packages named models, engine and pipelines do not conflict with Trimtab."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.foreign_folder import make_foreign_packages

pytestmark = pytest.mark.slow

PROGRAM = """
import models
import trimtab
from trimtab.models.catalogue import detector
import pandas as pd
scored = trimtab.score(pd.DataFrame({"t": range(60), "y": 1.0}), detectors=["default", "ew_zscore"])
print(models.__file__, detector("ew_zscore", n_series=1).n_series, scored["anomaly_score"].notna().any())
"""


def run_python(folder, *argv: str) -> str:
    """Run Python in this folder and return its standard output."""
    completed = subprocess.run(
        [sys.executable, *argv], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_both_packages_can_be_imported(tmp_path):
    """The user's models and Trimtab's models can both be imported."""
    file, n_series, scored = run_python(make_foreign_packages(tmp_path), "-c", PROGRAM).split()
    assert Path(file).parents[1] == tmp_path
    assert (n_series, scored) == ("1", "True")


def test_script_next_to_foreign_packages_imports_trimtab(tmp_path):
    """A script in the folder of the user's packages imports Trimtab, although Python searches there first."""
    (make_foreign_packages(tmp_path) / "mine.py").write_text(PROGRAM)
    assert run_python(tmp_path, "mine.py").split()[1:] == ["1", "True"]

"""The public names of `trimtab` exist and load lazily."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import trimtab

HEAVY = ["numpy", "pandas", "numba", "matplotlib", "river", "pyarrow", "sklearn", "pydantic", "rich"]


def run(code: str) -> str:
    """Return the output of code in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_import_loads_nothing_heavy():
    """Importing trimtab loads none of its heavy dependencies."""
    loaded = run(f"import sys, trimtab; print(*[m for m in {HEAVY} if m in sys.modules])")
    assert loaded.split() == []


def test_import_is_quick():
    """Importing trimtab takes less than 50 ms, the best of five."""
    code = "import time; t = time.perf_counter(); import trimtab; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(5)) < 0.05


def test_score_does_not_load_river_or_matplotlib():
    """Scoring with the default detectors needs neither river nor matplotlib."""
    code = (
        "import sys, pandas as pd, trimtab;"
        "trimtab.score(pd.DataFrame({'t': range(50), 'y': 1.0}));"
        "print(*[m for m in ('river', 'matplotlib', 'mlflow', 'sklearn') if m in sys.modules])"
    )
    assert run(code).split() == []


def test_names():
    """dir() lists the public names and packages, and each public name exists."""
    assert dir(trimtab) == sorted(
        [
            "__version__",
            "backtest_forecast",
            "engine",
            "forecast",
            "history",
            "models",
            "pipelines",
            "plot",
            "plot_forecast",
            "score",
        ]
    )
    assert all(getattr(trimtab, name) is not None for name in trimtab.__all__)
    assert trimtab.__version__ == version("trimtab")
    assert trimtab.score is trimtab.score


def test_unknown_name():
    """An unknown name raises an error that lists the known ones."""
    with pytest.raises(AttributeError, match="no attribute 'scroe'; it has __version__, backtest_forecast"):
        _ = trimtab.scroe

"""Notebooks run from a stranger's folder, and their two forms are one."""

from pathlib import Path

import pytest

from tests.foreign import foreign_folder

jupytext = pytest.importorskip("jupytext", reason="pip install 'trimtab[notebook]'")
nbclient = pytest.importorskip("nbclient", reason="pip install 'trimtab[notebook]'")

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    """A notebook that is lost is missed."""
    assert "01_score_a_recording" in [path.stem for path in NOTEBOOKS]
    assert [path.stem for path in sorted(FOLDER.glob("*.py"))] == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pair_is_one(path):
    """The notebook has the cells of its text form, and no outputs are committed."""
    notebook, text = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in text.cells]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_beside_foreign_packages(path, tmp_path):
    """Every cell runs, in a folder that holds packages models, engine and pipelines of its own."""
    notebook = jupytext.read(path)
    folder = {"metadata": {"path": str(foreign_folder(tmp_path))}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3

"""The examples in docstrings print what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def modules() -> list[str]:
    """Return every module of Trimtab that has an example."""
    files = [file for top in ("engine", "models", "pipelines") for file in (ROOT / top).rglob("*.py")]
    named = [file.relative_to(ROOT) for file in files if ">>>" in file.read_text("utf-8")]
    return sorted(
        ".".join(("trimtab", *path.with_suffix("").parts)).removesuffix(".__init__") for path in named
    )


@pytest.mark.parametrize("name", modules())
def test_examples(name, tmp_path, monkeypatch):
    """Each example prints the result below it."""
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(
        import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert tried > 0
    assert failed == 0

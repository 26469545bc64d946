"""A stranger's folder."""

from pathlib import Path


def make_foreign_packages(folder: Path) -> Path:
    """Put packages models, engine and pipelines into the folder; none of them has what trimtab's have."""
    for name in ("models", "engine", "pipelines"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f'"""The user\'s own {name}."""\n')
    return folder

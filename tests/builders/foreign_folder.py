"""Builds a folder with a user's own packages that have the names of Trimtab's."""

from pathlib import Path


def make_foreign_packages(folder: Path) -> Path:
    """Create packages models, engine and pipelines in the folder, without Trimtab's contents."""
    for name in ("models", "engine", "pipelines"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f'"""The user\'s own {name}."""\n')
    return folder

"""The package `trimtab` imports from a checkout and from a built wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = ("trimtab", "engine", "models", "pipelines")


def tracked(*paths: str) -> list[str]:
    """Return tracked files with their mode: `100644 engine/clock.py`."""
    command = ["git", "ls-files", "-z", "--format=%(objectmode) %(path)", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [line for line in listed.stdout.decode().split("\0") if line]


def test_git_tracks_no_symbolic_link():
    """The repository contains no symbolic links, which some systems cannot create."""
    assert [line for line in tracked() if line.startswith("120000")] == []


def test_a_checkout_without_links_is_importable(tmp_path):
    """The three top-level packages are imported as trimtab.engine, trimtab.models and trimtab.pipelines."""
    for line in tracked("trimtab/*.py", "engine/*.py", "models/*.py", "pipelines/*.py"):
        name = line.partition(" ")[2]
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    code = (
        "import trimtab.engine.types as t, trimtab.models.contracts as m, trimtab.pipelines.errors as p; "
        "print(t.__file__, m.__file__, p.__file__, sep='\\n')"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [
        str(tmp_path / "engine" / "types" / "__init__.py"),
        str(tmp_path / "models" / "contracts.py"),
        str(tmp_path / "pipelines" / "errors.py"),
    ]


def test_a_wheel_holds_every_module_under_trimtab(tmp_path):
    """A wheel contains each tracked module once, under `trimtab/`, and of the dashboard only the build."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {line.partition(" ")[2] for line in tracked(*(f"{folder}/*.py" for folder in SOURCES))}
    wanted = {name if name.startswith("trimtab/") else f"trimtab/{name}" for name in modules}
    assert {name for name in names if name.endswith(".py")} == wanted
    assert [name for name in names if "/web/" in name and "/web/dist/" not in name] == []

"""The layout of packages: small, unique names, no fragments."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAX_MODULES = 14
MIN_LINES = 15
GIVEN_BY_ALEMBIC = {"engine/store/migrations/env.py"}


@pytest.fixture(scope="module")
def modules() -> list[Path]:
    """Every tracked module of the three packages, relative to the repository, without `__init__.py`."""
    command = ["git", "ls-files", "-z", "engine/*.py", "models/*.py", "pipelines/*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.name != "__init__.py" and (ROOT / path).exists()]


def test_packages_are_small(modules):
    """No package has more than 14 modules."""
    sizes = Counter(path.parent for path in modules)
    assert len(sizes) > 40
    assert {str(package): size for package, size in sizes.items() if size > MAX_MODULES} == {}


def test_module_names_of_the_engine_are_unique(modules):
    """No two modules of the engine have the same name."""
    names = Counter(path.name for path in modules if path.parts[0] == "engine")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_is_a_fragment(modules):
    """No module has fewer than 15 lines."""
    short = [path for path in modules if len((ROOT / path).read_text("utf-8").splitlines()) < MIN_LINES]
    assert {path.as_posix() for path in short} <= GIVEN_BY_ALEMBIC


def test_every_package_says_what_it_holds(modules):
    """The `__init__.py` of each package begins with a docstring of one sentence."""
    packages = {path.parent for path in modules if "migrations" not in path.parts}  # alembic's own layout
    silent = [
        package.as_posix()
        for package in packages
        if not (ROOT / package / "__init__.py").read_text("utf-8").startswith('"""')
    ]
    assert silent == []

"""Code rules that ruff does not check."""

import ast
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from trimtab.models.catalogue import DETECTORS

ROOT = Path(__file__).parents[3]
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
HOSTS = ("pypi.org", "pythonhosted.org", "npmjs.org", "npmjs.com", "deb.debian.org", "repo1.maven.org")
HOMES = re.compile(r"(?<![\w.~$/}])(?:/root/|/home/\w+/|/Users/\w+/)")
REASONLESS = re.compile(r"# ?(?:noqa(?:: ?[A-Z0-9, ]+)?|type: ?ignore(?:\[[\w, -]+\])?)\s*$")
UNFINISHED = re.compile(
    r"\b(?:TODO|FIXME|XXX)\b|\btime\.sleep\(|except Exception:\s*pass|NotImplementedError\(\)"
)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Every tracked text file, except links and generated files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    generated = {".lock", ".png", ".ico", ".woff2", ".parquet", ".gz"}
    return [
        file for file in files if file.is_file() and not file.is_symlink() and file.suffix not in generated
    ]


def lines_where(files: list[Path], is_wrong) -> list[str]:
    """Return `file:line text` of each matching line, except in this file."""
    return [
        f"{file.relative_to(ROOT)}:{number} {line.strip()[:90]}"
        for file in files
        if file != Path(__file__)
        for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), 1)
        if is_wrong(line)
    ]


def functions(file: Path):
    """Return every function of a Python file, including nested ones."""
    tree = ast.parse(file.read_text("utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def python_files(files: list[Path]) -> list[Path]:
    """Return the Python files."""
    return [file for file in files if file.suffix == ".py"]


def test_no_file_is_too_long(tracked):
    """No source file has more than 400 lines."""
    sources = [f for f in tracked if f.suffix in {".py", ".ts", ".tsx", ".css", ".mjs", ".md"}]
    long = {f.relative_to(ROOT).as_posix(): len(f.read_text("utf-8").splitlines()) for f in sources}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE} == {}


def test_no_function_is_too_long(tracked):
    """No function has more than 60 lines."""
    long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in python_files(tracked)
        for node in functions(file)
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_every_test_has_a_docstring(tracked):
    """Every test has a docstring."""
    tests = [file for file in python_files(tracked) if file.is_relative_to(ROOT / "tests")]
    without_docstring = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in tests
        for node in functions(file)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert without_docstring == []


def test_no_registry_host_and_no_local_path(tracked):
    """No tracked file contains a package registry's host or a local folder."""
    here = re.compile(rf"(?<![\w/]){re.escape(str(ROOT))}(?!\w)")
    assert lines_where(tracked, lambda line: any(host in line for host in HOSTS)) == []
    assert lines_where(tracked, HOMES.search) == []
    assert lines_where(tracked, here.search) == []


def test_nothing_is_left_unfinished(tracked):
    """No file contains a TODO, a sleep, or a swallowed exception."""
    assert lines_where(python_files(tracked), UNFINISHED.search) == []


def test_every_suppression_has_a_reason(tracked):
    """Each `noqa` and `type: ignore` has a reason on its line."""
    assert lines_where(python_files(tracked), REASONLESS.search) == []


@pytest.mark.parametrize("line", DETECTORS.values())
def test_catalogue_lines_resolve(line):
    """Each catalogue line names an existing class with a docstring."""
    module, _, name = line.partition(":")
    assert getattr(import_module(module), name).__doc__

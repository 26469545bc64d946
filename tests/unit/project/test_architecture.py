"""docs/architecture.md against the code: the diagram, the links, and the files it names."""

import re
from itertools import permutations
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
TEXT = (DOCS / "architecture.md").read_text("utf-8")
FOUNDATION = {"types", "ports", "settings", "net", "observability", "errors", "redaction", "clock"}
"""Packages that any package may import; the diagram leaves them out."""


@pytest.fixture(scope="module")
def imports() -> set[tuple[str, str]]:
    """(importer, imported) among the packages of the engine, without the foundation."""
    graph = grimp.build_graph("trimtab", cache_dir=None, exclude_type_checking_imports=True)
    packages = {name.rpartition(".")[2]: name for name in graph.find_children("trimtab.engine")}
    drawn = sorted(packages.keys() - FOUNDATION)
    return {
        (one, other)
        for one, other in permutations(drawn, 2)
        if graph.direct_import_exists(importer=packages[one], imported=packages[other], as_packages=True)
    }


def reachable(start: str, edges: set[tuple[str, str]]) -> set[str]:
    """Every node that a path of edges leads to."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        node = waiting.pop()
        after = {other for one, other in edges if one == node} - found
        found |= after
        waiting.extend(after)
    return found


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that do not follow from others."""
    return {(one, other) for one, other in edges if other not in reachable(one, edges - {(one, other)})}


def test_the_diagram_shows_the_imports(imports):
    """Each arrow is an import between packages, and each import is an arrow or follows from arrows."""
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", TEXT, re.DOTALL)
    drawn = set(re.findall(r"^  (\w+) --> (\w+)$", diagram, re.MULTILINE))
    assert sorted(drawn) == sorted(reduced(imports))


def test_no_package_imports_one_that_imports_it(imports):
    """The packages of the engine have no import cycle."""
    assert [one for one, _ in imports if one in reachable(one, imports)] == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_the_links_lead_to_files(page):
    """Each relative link of each page leads to a file or folder of the repository."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_files_named_exist():
    """Each path in backquotes exists, unless capitals in it are a name to choose."""
    named = set(re.findall(r"`((?:engine|models|pipelines|tests)/[\w/]+(?:\.py)?)`", TEXT))
    assert len(named) > 25
    chosen = re.compile(r"[A-Z]{3,}")
    assert [path for path in sorted(named) if not chosen.search(path) and not (ROOT / path).exists()] == []

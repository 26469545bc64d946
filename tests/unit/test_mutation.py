"""Faults put one at a time into what decides over actions: its tests find them."""

import ast

import pytest

from tests.mutation import ROOT, judge, mutants

ACTING = ROOT / "engine" / "acting"
OF_GUARD = tuple(f"guard_{name}" for name in ("times", "changes", "rows", "reasons"))
FACING: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(sorted(path.name for path in ACTING.glob("guard*.py")), OF_GUARD),
    "journal.py": ("acting_journal",),
    "verify.py": ("verify_edges",),
    "drift.py": ("drift",),
}
"""File -> tests that its mutants face, by name; those that find most come first."""
KILLED = 0.9


def texts(source):
    """What each mutant of a source looks like, with a word for it."""
    return [(mutant.what, ast.unparse(mutant.tree)) for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a and b", ["x = a or b"]),
        ("x = a + 1", ["x = a - 1", "x = a + 2", "x = a + 0"]),
        ("x = not a", ["x = a"]),
        ("x = True", ["x = False"]),
        ("if a:\n    pass", ["if not a:\n    pass"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        ("f(a)", ["pass"]),
        ("x: 'a < b' = f'{a}'", []),  # annotations and texts are no logic
        ('"""A docstring."""', []),
    ],
)
def test_mutants(source, made):
    """Each fault is in a tree of its own; the source stays as it is."""
    assert sorted(text for _, text in texts(source)) == sorted(made)


@pytest.mark.trials
@pytest.mark.parametrize("name", FACING)
def test_the_tests_find_the_faults(name):
    """At least nine in ten mutants of each file fail a test."""
    tests = [str(ROOT / "tests" / "unit" / f"test_{facing}.py") for facing in FACING[name]]
    tried, missed = judge(ACTING / name, tests)
    told = "\n".join(f"{name}:{mutant.line}: {mutant.what}" for mutant in missed)
    print(f"{name}: {tried - len(missed)} of {tried} found\n{told}")
    assert len(missed) <= (1 - KILLED) * tried, told

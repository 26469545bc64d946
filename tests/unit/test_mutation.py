"""Faults put into the guard one at a time: its tests find them."""

import ast

import pytest

from tests.mutation import ROOT, judge, mutants

GUARD = sorted(path.name for path in (ROOT / "engine" / "acting").glob("guard*.py"))
TESTS = [f"tests/unit/test_guard_{name}.py" for name in ("times", "rows", "changes")]
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
@pytest.mark.parametrize("name", GUARD)
def test_the_tests_of_the_guard_find_its_faults(name):
    """At least nine in ten mutants of each file of the guard fail a test."""
    tried, missed = judge(ROOT / "engine" / "acting" / name, [str(ROOT / test) for test in TESTS])
    told = "\n".join(f"{name}:{mutant.line}: {mutant.what}" for mutant in missed)
    print(f"{name}: {tried - len(missed)} of {tried} found\n{told}")
    assert len(missed) <= (1 - KILLED) * tried, told

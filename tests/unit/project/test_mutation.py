"""Mutation tests of the modules that decide about actions."""

import ast

import pytest

from tests.mutation import ROOT, make_mutants, run_mutants

ACTIONS = ROOT / "engine" / "actions"
GUARD_TESTS = (
    "guard/test_wait_rules", "guard/test_size_rules", "guard/test_guard_rules", "guard/test_guard_reasons",
)  # fmt: skip
GUARD_MODULES = ("guard", "guard_request", *(f"{family}_rules" for family in (
    "approval", "input", "plan", "rollback", "size", "wait",
)))  # fmt: skip
TESTS_OF: dict[str, tuple[str, ...]] = {
    **{f"guard/{name}.py": GUARD_TESTS for name in GUARD_MODULES},
    "journal.py": ("actions/test_journal",),
    "verification.py": ("actions/test_verification_edges",),
    "drift.py": ("actions/test_drift",),
}
"""File in engine/actions -> test files that its mutants must fail, the most effective ones first."""
MIN_DETECTED = 0.9


def mutated_sources(source):
    """Return (change, source) of each mutant of a source."""
    return [(mutant.change, ast.unparse(mutant.tree)) for mutant in make_mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a and b", ["x = a or b"]),
        ("x = a + 1", ["x = a - 1", "x = a + 2", "x = a + 0"]),
        ("x = not a", ["x = a"]),
        ("x = True", ["x = False"]),
        ("if a:\n    pass", ["if not a:\n    pass"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        ("f(a)", ["pass"]),
        ("x: 'a < b' = f'{a}'", []),  # annotations and strings are not mutated
        ('"""A docstring."""', []),
    ],
)
def test_mutants(source, expected):
    """Each mutant has one change; the source is not modified."""
    assert sorted(text for _, text in mutated_sources(source)) == sorted(expected)


def test_every_mutated_file_and_its_tests_exist():
    """Each file under mutation testing and each of its test files exists."""
    files = [ACTIONS / name for name in TESTS_OF]
    tests = [ROOT / "tests" / "unit" / f"{test}.py" for named in TESTS_OF.values() for test in named]
    assert [path for path in (*files, *tests) if not path.is_file()] == []


@pytest.mark.trials
@pytest.mark.parametrize("name", TESTS_OF)
def test_tests_detect_the_mutants(name):
    """At least 90 % of the mutants of each file fail a test."""
    tests = [str(ROOT / "tests" / "unit" / f"{test}.py") for test in TESTS_OF[name]]
    tried, survivors = run_mutants(ACTIONS / name, tests)
    listed = "\n".join(f"{name}:{mutant.line}: {mutant.change}" for mutant in survivors)
    print(f"{name}: {tried - len(survivors)} of {tried} detected\n{listed}")
    assert len(survivors) <= (1 - MIN_DETECTED) * tried, listed

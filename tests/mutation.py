"""Mutation testing: change a file in one place at a time; its tests must detect each change.

    python -m tests.mutation engine/actions/guard/wait_rules.py tests/unit/guard/test_wait_rules.py
           [more tests] [--share 0.5] [--seed 1]

Each mutant is one change of the syntax tree: a comparison shifted or inverted, a constant off by one, a
                                              negated
condition, `and` for `or`, a sum for a difference, None returned, a statement removed. Each mutant runs in a
process forked after test collection, in which the code of the module's functions is replaced. Strings,
docstrings and annotations are not mutated.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import io
import itertools
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).parents[1]
LIMIT_S = 60
"""A mutant that runs longer counts as detected."""
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: its line, a description, and the changed syntax tree."""

    line: int
    change: str
    tree: ast.Module


def mutable_nodes(tree: ast.Module) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield (parent, field, index) of each node to mutate; skips annotations, decorators and strings."""
    skipped = {"annotation", "returns", "decorator_list", "type_params"}
    waiting: list[ast.AST] = [tree]
    while waiting:
        parent = waiting.pop()
        for name, value in ast.iter_fields(parent):
            if name in skipped or isinstance(parent, ast.JoinedStr):
                continue
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.AST):
                    yield parent, name, index
                    waiting.append(child)


def child_node(parent: ast.AST, name: str, index: int | None) -> ast.AST:
    """Return the node in that field."""
    value = getattr(parent, name)
    return value if index is None else value[index]


def replacements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield (description, replacement) for a node."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                changed = copy.deepcopy(node)
                changed.ops[i] = other()
                yield f"{type(operator).__name__} -> {other.__name__}", changed
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and <-> or", ast.BoolOp(other, node.values)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "operator removed", node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "true <-> false", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        for other in (node.value + 1, node.value - 1):
            yield f"{node.value} -> {other}", ast.Constant(other)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "returns None", ast.Return(ast.Constant(None))
    elif isinstance(node, ast.If | ast.IfExp):
        changed = copy.copy(node)
        changed.test = ast.UnaryOp(ast.Not(), node.test)
        yield "condition negated", changed
    elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
        yield "statement removed", ast.Pass()


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def make_mutants(source: str) -> list[Mutant]:
    """Return every mutant of a source, ordered by line."""
    tree, found = ast.parse(source), []
    for parent, name, index in list(mutable_nodes(tree)):
        node = child_node(parent, name, index)
        for change, other in replacements(node):
            _put(parent, name, index, ast.copy_location(other, node))
            found.append(
                Mutant(getattr(node, "lineno", 0), change, ast.fix_missing_locations(copy.deepcopy(tree)))
            )
            _put(parent, name, index, node)
    return sorted(found, key=lambda mutant: mutant.line)


def _put(parent: ast.AST, name: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


def apply_mutant(new: dict[str, object], module: ModuleType) -> None:
    """Replace a module's functions and constants by those of a mutant, also where imported."""
    for name, value in new.items():
        old = module.__dict__.get(name)
        if isinstance(value, FunctionType) and isinstance(old, FunctionType):
            _replace_code(value, old)
        elif isinstance(value, type) and isinstance(old, type):
            for part, inside in vars(value).items():
                _replace_member(inside, vars(old).get(part))
        elif not name.startswith("__") and not isinstance(value, ModuleType):
            for holder in list(sys.modules.values()):
                if holder is not None and vars(holder).get(name, new) is old:
                    setattr(holder, name, value)


def _replace_member(new: object, old: object) -> None:
    if isinstance(new, property) and isinstance(old, property):
        new, old = new.fget, old.fget
    if isinstance(new, FunctionType) and isinstance(old, FunctionType):
        _replace_code(new, old)


def _replace_code(new: FunctionType, old: FunctionType) -> None:
    if len(new.__code__.co_freevars) == len(old.__code__.co_freevars):
        old.__code__, old.__defaults__, old.__kwdefaults__ = (
            new.__code__,
            new.__defaults__,
            new.__kwdefaults__,
        )


class MutationPlugin:
    """A pytest plugin that runs the collected tests once without and once with each mutant, each in a fork.

    path  : mutated file
    tried : mutants to run
    """

    def __init__(self, path: Path, tried: list[Mutant]) -> None:
        self.path, self.tried = path, tried
        self.module = "trimtab." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        self.survivors: list[Mutant] = []
        self.baseline_passes = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests without a mutant, then with each."""
        self.baseline_passes = (
            bool(session.items) and not session.testsfailed and not self._fails(session, None)
        )
        if self.baseline_passes:
            self.survivors = [mutant for mutant in self.tried if not self._fails(session, mutant)]
        return True

    def _fails(self, session: pytest.Session, mutant: Mutant | None) -> bool:
        child = os.fork()
        if child == 0:
            code = 3
            with contextlib.suppress(BaseException):
                signal.alarm(LIMIT_S)
                code = self._run(session, mutant)
            os._exit(code)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) != 0

    def _run(self, session: pytest.Session, mutant: Mutant | None) -> int:
        if mutant is not None:
            module = importlib.import_module(self.module)
            new: dict[str, object] = {"__name__": self.module, "__file__": str(self.path)}
            exec(compile(mutant.tree, str(self.path), "exec"), new)
            apply_mutant(new, module)
        for item, after in itertools.zip_longest(session.items, session.items[1:]):
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
                return 1
        return 0


def run_mutants(path: Path, tests: list[str], share: float = 1.0, seed: int = 1) -> tuple[int, list[Mutant]]:
    """Return the number of mutants tried and those that no test detects.

    share : share of all mutants to try, chosen by `seed`

    Raises ValueError if the tests fail without a mutant.
    """
    mutants = make_mutants(path.read_text("utf-8"))
    tried = sorted(
        random.Random(seed).sample(mutants, max(1, round(share * len(mutants)))), key=lambda m: m.line
    )
    plugin = MutationPlugin(path, tried)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pytest.main([*tests, "-q", "-s", "--no-header", "--no-summary"], plugins=[plugin])
    if not plugin.baseline_passes:
        raise ValueError(f"{' '.join(tests)} fail without a mutant; fix them first")
    return len(tried), plugin.survivors


def main() -> int:
    """Print the undetected mutants; exit code 1 if there are any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    path = given.file.absolute()
    tried, survivors = run_mutants(path, given.tests, given.share, given.seed)
    for mutant in survivors:
        print(f"{given.file}:{mutant.line}: {mutant.change}: no test detects it")
    print(f"{given.file}: {tried - len(survivors)} of {tried} detected, {1 - len(survivors) / tried:.1%}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

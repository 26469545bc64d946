"""Progress output of parallel test runs: one line per test file when a worker has finished it.

Interleaved dots of several files would be unreadable; these lines also show where the time goes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class _FileResult:
    name: str
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in self.outcomes.items())
        return f"{self.seconds:6.1f} s  {self.name}: {counts}"


class FileProgress:
    """A plugin of the controlling process, whose workers each run whole files."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._current: dict[Any, _FileResult] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Iterator[Any]:
        """Suppress the dots; keep the word for the summary."""
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a result; the first result of another file completes the previous one."""
        name = report.nodeid.partition("::")[0]
        file = self._current.get(report.node)
        if file is None or file.name != name:
            self._print(file)
            file = self._current[report.node] = _FileResult(name)
        file.seconds += report.duration
        outcome = self._config.hook.pytest_report_teststatus(report=report, config=self._config)[0]
        file.outcomes.update([outcome] if outcome else [])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Print the remaining files."""
        for file in self._current.values():
            self._print(file)
        self._current.clear()

    def _print(self, file: _FileResult | None) -> None:
        if file is not None:
            self._config.get_terminal_writer().line(str(file))

"""What is printed where tests run beside each other: a line for each file once a worker is through with it.

Dots of several files at once would tell nothing; these lines tell where the time goes, too.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class _File:
    name: str
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {how}" for how, n in self.ended.items())
        return f"{self.seconds:6.1f} s  {self.name}: {counts}"


class FileProgress:
    """A plugin of the process that hands tests to workers, each of which gets whole files."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._at: dict[Any, _File] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Iterator[Any]:
        """No dots; the word stands in the summary."""
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count it; the first of another file says that the one before is through."""
        name = report.nodeid.partition("::")[0]
        file = self._at.get(report.node)
        if file is None or file.name != name:
            self._tell(file)
            file = self._at[report.node] = _File(name)
        file.seconds += report.duration
        how = self._config.hook.pytest_report_teststatus(report=report, config=self._config)[0]
        file.ended.update([how] if how else [])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """The last ones."""
        for file in self._at.values():
            self._tell(file)
        self._at.clear()

    def _tell(self, file: _File | None) -> None:
        if file is not None:
            self._config.get_terminal_writer().line(str(file))

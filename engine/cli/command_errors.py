"""Turns the errors of a command into one line on stderr and an exit code."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import NoReturn

EXIT_OK, EXIT_FOUND, EXIT_WRONG_USE, EXIT_UNREACHABLE = 0, 1, 2, 3
"""Exit codes: success, a finding that needs attention, wrong use, an unreachable source."""


def run_guarded(command: Callable[[], object]) -> None:
    """Run a command. A TrimtabError prints its message; any other error prints the file of its traceback."""
    from trimtab.models.errors import TrimtabError

    try:
        command()
    except TrimtabError as error:
        _exit_with_message(error)
    except Exception as error:
        _exit_after_crash(error)


def _exit_with_message(error: Exception) -> NoReturn:
    from trimtab.engine.errors import SourceError

    print(f"trimtab: {error}", file=sys.stderr)
    raise SystemExit(EXIT_UNREACHABLE if isinstance(error, SourceError) else EXIT_WRONG_USE) from None


def _exit_after_crash(error: Exception) -> NoReturn:
    from trimtab.engine.redaction import redact_text

    text = redact_text("".join(traceback.format_exception(error)))
    descriptor, path = tempfile.mkstemp(prefix="trimtab-crash-", suffix=".log")
    with os.fdopen(descriptor, "w") as log:
        log.write(text)
    line = redact_text(f"{type(error).__name__}: {error}")
    print(f"trimtab: internal error: {line}; details in {path}", file=sys.stderr)
    raise SystemExit(EXIT_FOUND) from None

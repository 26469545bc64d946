"""What a person sees when a command fails: one clear line, and an exit code."""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import NoReturn

DONE, FOUND, WRONG_USE, NOT_REACHABLE = 0, 1, 2, 3
"""Exit codes: FOUND something that needs a person, WRONG_USE, a source is NOT_REACHABLE."""


def run_guarded(command: Callable[[], object]) -> None:
    """Run a command; an error of ours becomes its message, any other one a line that says where to look."""
    from trimtab.models.errors import TrimtabError

    try:
        command()
    except TrimtabError as error:
        _tell(error)
    except Exception as error:
        _crashed(error)


def _tell(error: Exception) -> NoReturn:
    from trimtab.engine.errors import SourceError

    print(f"trimtab: {error}", file=sys.stderr)
    raise SystemExit(NOT_REACHABLE if isinstance(error, SourceError) else WRONG_USE) from None


def _crashed(error: Exception) -> NoReturn:
    from trimtab.engine.redaction import clean_text

    text = clean_text("".join(traceback.format_exception(error)))
    descriptor, path = tempfile.mkstemp(prefix="trimtab-crash-", suffix=".log")
    with os.fdopen(descriptor, "w") as log:
        log.write(text)
    line = clean_text(f"{type(error).__name__}: {error}")
    print(f"trimtab: this should not happen: {line}; details in {path}", file=sys.stderr)
    raise SystemExit(FOUND) from None

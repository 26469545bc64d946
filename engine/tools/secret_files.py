"""Secrets that stand in files."""

from pathlib import Path

from trimtab.engine.errors import ToolError


def read_secret(name: str, file: Path) -> str:
    """What stands in a file of a password. Raises ToolError."""
    try:
        return file.expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ToolError(
            f"{name}: {file} cannot be read: {why}; it is named in tools.{name}.password_file"
        ) from None

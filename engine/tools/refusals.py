"""What a server's refusal is to a tool."""

from trimtab.engine.errors import ToolError


class DeniedError(ToolError):
    """It answers, but not to us: wrong credentials or too few rights."""


class ExportOnlyError(ToolError):
    """It forbids changes; they are written down for people."""

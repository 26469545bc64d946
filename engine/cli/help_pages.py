"""Help pages of the `trimtab` command: plain text, grouped commands, examples.

Plain text because rich would triple the time a help page takes.
"""

from typing import Any

import typer
from typer.core import TyperGroup


class GroupedCommands(TyperGroup):
    """Command group that lists its commands in sections."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - these types are private to typer
        """Write one section per panel, in the order of the commands."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                panel = getattr(command, "rich_help_panel", None)
                title = panel if isinstance(panel, str) else "Commands"
                sections.setdefault(title, []).append((name, command.get_short_help_str(90)))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def new_command_group(help_text: str, epilog: str) -> typer.Typer:
    """Return a command group with this help text and closing text."""
    return typer.Typer(
        cls=GroupedCommands,
        help=help_text,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def examples(*lines: tuple[str, str]) -> str:
    """Return the examples of a help page: pairs of a command line and what it does.

    >>> examples(("trimtab up", "watch this machine")).splitlines()[2:]
    ['  # watch this machine', '  trimtab up']
    """
    rows = [f"  # {does}\n  {command}" for command, does in lines]
    return "\b\nExamples:\n" + "\n".join(rows)

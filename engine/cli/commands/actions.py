"""`trimtab actions`: lists changes and their outcomes, with or without a running engine."""

from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.open_store import store_session
from trimtab.engine.cli.options import ConfigFile, DataDir, Format
from trimtab.engine.cli.output import OutputFormat, format_rows

if TYPE_CHECKING:
    from trimtab.engine.types import Action

ACTION_COLUMNS = ("created", "tool", "target", "change", "from", "to", "state", "by", "outcome")
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Number of actions.")]


def actions(
    config: ConfigFile = None, data: DataDir = None, limit: Limit = 20, form: Format = OutputFormat.TABLE
) -> None:
    """List changes and their outcomes, newest first."""
    with store_session(config, data) as session:
        ledger = session.ledger
        rows = [_action_row(action) for action in ledger.actions(limit=limit)]
        pause = ledger.pause()
    typer.echo(format_rows(rows, ACTION_COLUMNS, form))
    if pause.on:
        typer.echo(f"{pause.by} paused all actions; run `trimtab resume` to allow them again", err=True)


def _action_row(action: "Action") -> dict[str, object]:
    from trimtab.engine.types import iso

    return {
        "id": action.id, "created": iso(action.created), "tool": action.tool, "target": action.target,
        "change": action.subject, "from": action.before, "to": action.after, "state": str(action.state),
        "by": action.by, "undoes": action.undoes, "outcome": action.outcome and action.outcome.words,
    }  # fmt: skip

"""`trimtab pause`, `resume`, `actions` and `audit`: beside the engine, whether it runs or not."""

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.help_pages import examples, new_command_group
from trimtab.engine.cli.open_store import store_session
from trimtab.engine.cli.options import ConfigFile, DataDir, Format
from trimtab.engine.cli.output import OutputFormat, format_rows

if TYPE_CHECKING:
    from trimtab.engine.types import Action

audit_app = new_command_group(
    "Audit of decisions and actions.",
    examples(
        ("trimtab audit verify", "check that no row was changed"),
        ("trimtab audit export > audit.jsonl", "make a copy"),
    ),
)
ACTION_COLUMNS = ("created", "tool", "target", "change", "from", "to", "state", "by", "outcome")
EXIT_FOUND = 1

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, shown to other operators.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Number of actions.")]


def pause(reason: Reason = "", config: ConfigFile = None, data: DataDir = None) -> None:
    """Stop all actions within a second, until an operator resumes them; rollbacks still work."""
    meant = _set_pause(True, reason, config, data)
    typer.echo(f"paused until `trimtab resume`: {meant}", err=True)


def resume(reason: Reason = "", config: ConfigFile = None, data: DataDir = None) -> None:
    """Allow actions again."""
    meant = _set_pause(False, reason, config, data)
    typer.echo(f"resumed: {meant}", err=True)


def actions(
    config: ConfigFile = None, data: DataDir = None, limit: Limit = 20, form: Format = OutputFormat.TABLE
) -> None:
    """List changes and their outcomes, newest first."""
    with store_session(config, data) as here:
        ledger = here.ledger
        rows = [_action_row(action) for action in ledger.actions(limit=limit)]
        switch = ledger.pause()
    typer.echo(format_rows(rows, ACTION_COLUMNS, form))
    if switch.on:
        typer.echo(f"{switch.by} paused all actions; run `trimtab resume` to allow them again", err=True)


@audit_app.command("verify", epilog=examples(("trimtab audit verify", "exit code 1 = a row was changed")))
def verify_audit(config: ConfigFile = None, data: DataDir = None) -> None:
    """Check the audit for rows that were removed, edited, moved or inserted."""
    from trimtab.engine.audit.audit_export import verify

    with store_session(config, data) as here:
        ledger = here.ledger
        found = verify(ledger)
        head = ledger.audit_heads().store
    for finding in found:
        typer.echo(f"row {finding.seq}: {finding.what}")
    if found:
        raise typer.Exit(EXIT_FOUND)
    seq, digest = head or (0, "")
    typer.echo(f"{seq} rows are unchanged; the hash of the last row is {digest or 'none'}")


@audit_app.command(
    "export", epilog=examples(("trimtab audit export > audit.jsonl", "one line of JSON per row"))
)
def export_audit(config: ConfigFile = None, data: DataDir = None) -> None:
    """Print every audit row as a line of JSON, oldest first."""
    from trimtab.engine.audit.audit_export import export

    with store_session(config, data) as here:
        ledger = here.ledger
        for line in export(ledger):
            typer.echo(line, nl=False)


def _set_pause(on: bool, reason: str, config: Path | None, data: Path | None) -> str:
    """Set the pause; return which engine it affects."""
    from trimtab.engine.types import Pause

    with store_session(config, data) as here:
        ledger = here.ledger
        ledger.set_pause(Pause(on=on, by=current_user(), since=ledger.fenced.now(), reason=reason))
        return here.describe_engine()


def current_user() -> str:
    """Return the user who runs the command; "uid N" for a user without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _action_row(action: "Action") -> dict[str, object]:
    from trimtab.engine.types import iso

    return {
        "id": action.id, "created": iso(action.created), "tool": action.tool, "target": action.target,
        "change": action.subject, "from": action.before, "to": action.after, "state": str(action.state),
        "by": action.by, "undoes": action.undoes, "outcome": action.outcome and action.outcome.words,
    }  # fmt: skip

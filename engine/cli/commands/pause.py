"""`trimtab pause` and `trimtab resume`: the kill switch, with or without a running engine."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.engine.cli.open_store import current_user, store_session
from trimtab.engine.cli.options import ConfigFile, DataDir

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, shown to other operators.")]


def pause(reason: Reason = "", config: ConfigFile = None, data: DataDir = None) -> None:
    """Stop all actions within a second, until an operator resumes them; rollbacks still work."""
    engine = _set_pause(True, reason, config, data)
    typer.echo(f"paused until `trimtab resume`: {engine}", err=True)


def resume(reason: Reason = "", config: ConfigFile = None, data: DataDir = None) -> None:
    """Allow actions again."""
    engine = _set_pause(False, reason, config, data)
    typer.echo(f"resumed: {engine}", err=True)


def _set_pause(on: bool, reason: str, config: Path | None, data: Path | None) -> str:
    """Set the pause; return which engine it affects."""
    from trimtab.engine.types import Pause

    with store_session(config, data) as session:
        ledger = session.ledger
        ledger.set_pause(Pause(on=on, by=current_user(), since=ledger.fenced.now(), reason=reason))
        return session.describe_engine()

"""Each change of the champion has its row in the audit, whichever process made it and wherever that ended."""

from functools import partial

from trimtab.engine.ports import Ledger
from trimtab.pipelines.model_registry.model_store import ChampionChange, ModelStore

ENGINE_ACTOR = "trimtab"


def audit_champion_changes(
    shelf: ModelStore, ledger: Ledger, model: str, person: str = "", command: str = ""
) -> None:
    """Append the audit rows still missing for champion changes, oldest first, each once.

    person  : who ran `command`; their changes carry their name, all others the engine's
    command : command line that made the change

    Raises StoreError; the remaining rows are then written by the next call.
    """
    shelf.audit_changes(partial(_append_row, ledger, model, person, command))


def _append_row(ledger: Ledger, model: str, person: str, command: str, move: ChampionChange) -> None:
    subject = f"{model}/{move.version}"
    if any(row.details.get("move") == move.id for row in ledger.audit_rows(subject=subject)):
        return  # the row was written, but the process ended before the store recorded that
    actor, by = (person, command) if person and move.by == person else (ENGINE_ACTOR, move.by)
    ledger.append_audit("model promoted", subject, actor, {"by": by, "before": move.before, "move": move.id})

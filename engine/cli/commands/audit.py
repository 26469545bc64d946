"""`trimtab audit`: verifies and exports the audit, with or without a running engine."""

import typer

from trimtab.engine.cli.command_errors import EXIT_FOUND
from trimtab.engine.cli.help_pages import examples, new_command_group
from trimtab.engine.cli.open_store import store_session
from trimtab.engine.cli.options import ConfigFile, DataDir

audit_app = new_command_group(
    "Audit of decisions and actions.",
    examples(
        ("trimtab audit verify", "check that no row was changed"),
        ("trimtab audit export > audit.jsonl", "make a copy"),
    ),
)


@audit_app.command("verify", epilog=examples(("trimtab audit verify", "exit code 1 = a row was changed")))
def verify_audit(config: ConfigFile = None, data: DataDir = None) -> None:
    """Check the audit for rows that were removed, edited, moved or inserted."""
    from trimtab.engine.audit import audit_export

    with store_session(config, data) as session:
        ledger = session.ledger
        findings = audit_export.verify_audit(ledger)
        head = ledger.audit_heads().store
    for finding in findings:
        typer.echo(f"row {finding.seq}: {finding.what}")
    if findings:
        raise typer.Exit(EXIT_FOUND)
    seq, digest = head or (0, "")
    typer.echo(f"{seq} rows are unchanged; the hash of the last row is {digest or 'none'}")


@audit_app.command(
    "export", epilog=examples(("trimtab audit export > audit.jsonl", "one line of JSON per row"))
)
def export_audit(config: ConfigFile = None, data: DataDir = None) -> None:
    """Print every audit row as a line of JSON, oldest first."""
    from trimtab.engine.audit import audit_export

    with store_session(config, data) as session:
        ledger = session.ledger
        for line in audit_export.export_audit(ledger):
            typer.echo(line, nl=False)

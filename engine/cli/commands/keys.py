"""`trimtab key`: manages API keys and login links; works with or without a running engine."""

from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.help_pages import examples, new_command_group
from trimtab.engine.cli.open_store import current_user, store_session
from trimtab.engine.cli.options import (
    ConfigFile,
    DataDir,
    Format,
    Host,
    Port,
)
from trimtab.engine.cli.output import OutputFormat, format_rows

if TYPE_CHECKING:
    from trimtab.engine.types import ApiKey, Value

key_app = new_command_group(
    "API keys and login links.",
    examples(
        ("trimtab key create ci --scope read --expires 90d", "create a key for a program"),
        ("trimtab key list", "list the keys"),
        ("trimtab key login", "print a link that logs a browser in once"),
    ),
)
_NEVER = "never"
_COLUMNS = ("name", "prefix", "scopes", "created", "expires", "state")


@key_app.command(
    epilog=examples(
        ("trimtab key create grafana", "a key that may read for a year"),
        ("trimtab key create ci --scope read --scope ingest --expires 90d", "two scopes, 90 days"),
    )
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="read, ingest, propose, approve, execute or admin."),
    ] = None,
    expires: Annotated[str, typer.Option(metavar="D", help="Lifetime such as 90d, or never.")] = "365d",
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """Create a key; it is shown only once."""
    from trimtab.engine.api.security import api_keys
    from trimtab.pipelines.io.durations import positive_duration_s

    lifetime_s = None if expires == _NEVER else positive_duration_s(expires, "--expires")
    with store_session(config, data) as session:
        key, secret = api_keys.create_key(session.store, session.clock, name, scope or ["read"], lifetime_s)
        details: dict[str, Value] = {"name": key.name, "scopes": ", ".join(key.scopes)}
        session.ledger.append_audit("key created", key.id, current_user(), details)
    typer.echo(f"{key.name}: {', '.join(key.scopes)}; store the key, it is not shown again:", err=True)
    typer.echo(secret)


@key_app.command(
    "list",
    epilog=examples(
        ("trimtab key list", "a table"),
        ("trimtab key list -f json", "JSON"),
    ),
)
def list_keys(config: ConfigFile = None, data: DataDir = None, form: Format = OutputFormat.TABLE) -> None:
    """List the keys, newest first, without their secrets."""
    from trimtab.engine.api.security import api_keys

    with store_session(config, data) as session:
        rows = [_key_row(key, session.clock.now()) for key in api_keys.list_keys(session.store)]
    typer.echo(format_rows(rows, _COLUMNS, form))


@key_app.command(epilog=examples(("trimtab key revoke ci", "by name, prefix or id")))
def revoke(
    which: Annotated[str, typer.Argument(metavar="KEY", help="Name, prefix or id of the key.")],
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """Revoke a key and end the sessions it opened."""
    from trimtab.engine.api.security import api_keys

    with store_session(config, data) as session:
        key = api_keys.revoke_key(session.store, session.clock, which)
        session.ledger.append_audit("key revoked", key.id, current_user(), {"name": key.name})
    typer.echo(f"{key.name} ({key.prefix}...) revoked", err=True)


@key_app.command(epilog=examples(("trimtab key login", "open the link in a browser within 10 minutes")))
def login(config: ConfigFile = None, data: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Print a link that logs one browser in as administrator."""
    from trimtab.engine.api.security import api_keys
    from trimtab.engine.api.security.listen_address import base_url

    with store_session(config, data, host, port) as session:
        api = session.settings.api
        engine_url = (
            base_url(api, api.port) if host or port else session.engine_url() or base_url(api, api.port)
        )
        url = api_keys.create_login_url(session.store, session.clock, engine_url)
        session.ledger.append_audit("login link made", "session", current_user())
        typer.echo(url)


def _key_row(key: "ApiKey", now: int) -> dict[str, object]:
    from trimtab.engine.api.security import api_keys
    from trimtab.engine.types import iso

    state = "revoked" if key.revoked is not None else "live" if api_keys.is_live(key, now) else "expired"
    return {
        "id": key.id, "name": key.name, "prefix": key.prefix, "scopes": list(key.scopes),
        "created": iso(key.created), "expires": iso(key.expires) if key.expires else None, "state": state,
    }  # fmt: skip

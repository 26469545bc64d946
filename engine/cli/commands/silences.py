"""`trimtab silence`: silences notifications of some entities for a time."""

from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.help_pages import examples, new_command_group
from trimtab.engine.cli.open_store import current_user, store_session
from trimtab.engine.cli.options import ConfigFile, DataDir, Format
from trimtab.engine.cli.output import OutputFormat, format_rows

if TYPE_CHECKING:
    from trimtab.engine.types import Silence

silence_app = new_command_group(
    "Silence notifications of some entities for a time.",
    examples(
        ("trimtab silence add 'redis/*' --for 2h --note 'moving it'", "silence from now on for two hours"),
        ("trimtab silence list", "list current and future silences"),
        ("trimtab silence end 01J8Y3", "end a silence"),
    ),
)
COLUMNS = ("id", "entities", "from", "until", "state", "by", "note")
Until = Annotated[str | None, typer.Option("--until", metavar="T", help="End, such as 2026-01-31T22:00:00Z.")]


@silence_app.command(
    epilog=examples(
        ("trimtab silence add web redis/cache-1", "two entities for an hour"),
        ("trimtab silence add 'redis/*' --from 2026-01-31T22:00:00Z --for 4h", "a planned maintenance"),
    )
)
def add(
    entities: Annotated[
        list[str], typer.Argument(metavar="ENTITY...", help="Names, or patterns such as redis/*.")
    ],
    lasts: Annotated[str, typer.Option("--for", metavar="D", help="Duration, such as 30m, 2h or 1d.")] = "1h",
    begin: Annotated[str | None, typer.Option("--from", metavar="T", help="Start. Default: now.")] = None,
    until: Until = None,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="Reason, shown to other operators.")
    ] = "",
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """Send no notification of incidents that touch these entities only. They are still detected and shown."""
    from trimtab.engine.api.parameters import parse_time
    from trimtab.engine.api.shapes.silence_shapes import new_silence
    from trimtab.engine.types import iso
    from trimtab.pipelines.io.durations import positive_duration_s

    with store_session(config, data) as session:
        now = session.clock.now()
        start = now if begin is None else parse_time("--from", begin)
        end = (
            parse_time("--until", until)
            if until
            else start + round(positive_duration_s(lasts, "--for") * 1e9)
        )
        silence = new_silence(entities, start, end, current_user(), note, now)
        session.ledger.add_silence(silence)
        engine = session.describe_engine()
    typer.echo(f"silent until {iso(silence.until)}: {', '.join(silence.entities)}; {engine}", err=True)
    typer.echo(silence.id)


@silence_app.command(
    "list", epilog=examples(("trimtab silence list --over -f json", "include recently ended silences"))
)
def list_silences(
    over: Annotated[
        bool, typer.Option("--over", help="Include silences that ended in the last 30 days.")
    ] = False,
    config: ConfigFile = None,
    data: DataDir = None,
    form: Format = OutputFormat.TABLE,
) -> None:
    """List current and future silences; those in trimtab.yaml are not listed."""
    with store_session(config, data) as session:
        now = session.clock.now()
        rows = [_silence_row(silence, now) for silence in session.ledger.silences()]
    typer.echo(format_rows([row for row in rows if over or row["state"] != "over"], COLUMNS, form))


@silence_app.command(
    epilog=examples(("trimtab silence end 01J8Y3", "the first letters of the id are enough"))
)
def end(
    which: Annotated[str, typer.Argument(metavar="ID", help="Id of the silence, or its first letters.")],
    config: ConfigFile = None,
    data: DataDir = None,
) -> None:
    """End a silence early; held-back notifications of open incidents are sent."""
    with store_session(config, data) as session:
        found = session.ledger.end_silence(_find_id(session.ledger.silences(), which), current_user())
    typer.echo(f"silence ended: {', '.join(found.entities)}", err=True)


def _find_id(silences: "list[Silence]", which: str) -> str:
    """Return the id that starts with `which`. Raises InputError if several do."""
    from trimtab.engine.errors import InputError

    found = [silence.id for silence in silences if silence.id.startswith(which)]
    if len(found) > 1:
        raise InputError(f"{len(found)} silences start with {which!r}; give more letters of the id")
    return found[0] if found else which


def _silence_row(silence: "Silence", now: int) -> dict[str, object]:
    from trimtab.engine.api.shapes.silence_shapes import silence_json

    return silence_json(silence, now)

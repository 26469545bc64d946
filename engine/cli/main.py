"""The `trimtab` command: declares options; the work is in modules imported when a command runs."""

import gc
import os
from typing import Annotated

import typer

from trimtab.engine.cli.command_errors import run_guarded
from trimtab.engine.cli.commands.actions import actions
from trimtab.engine.cli.commands.audit import audit_app
from trimtab.engine.cli.commands.backtest import backtest
from trimtab.engine.cli.commands.forecast import forecast
from trimtab.engine.cli.commands.grant import grant
from trimtab.engine.cli.commands.keys import key_app
from trimtab.engine.cli.commands.pause import pause, resume
from trimtab.engine.cli.commands.recommend import recommend
from trimtab.engine.cli.commands.retrain import retrain
from trimtab.engine.cli.commands.silences import silence_app
from trimtab.engine.cli.help_pages import examples, new_command_group
from trimtab.engine.cli.options import (
    ConfigFile,
    DataDir,
    Detectors,
    FalseAlarms,
    Format,
    Host,
    OutputFile,
    Port,
    PrometheusUrl,
    Recording,
    RowInterval,
    find_config_file,
    settings_overrides,
)
from trimtab.engine.cli.output import OutputFormat, format_rows

WATCH, ACT, RECORDINGS, CARE = "Watch", "Act", "Recordings", "Maintain"

app = new_command_group(
    "Watches live metric series and reports which behave unusually, and why.",
    examples(
        ("trimtab up", "watch this machine, and a Prometheus on localhost:9090 if there is one"),
        ("trimtab score cpu.csv", "score a recording"),
        ("trimtab doctor", "check the installation and the settings"),
    ),
)
app.add_typer(key_app, name="key", rich_help_panel=CARE)


def _show_version(wanted: bool) -> None:
    if wanted:
        import trimtab

        print(f"trimtab {trimtab.__version__}")
        raise typer.Exit


@app.callback()
def _root_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(
    rich_help_panel=WATCH,
    epilog=examples(
        ("trimtab up", "watch this machine on http://127.0.0.1:8600"),
        ("trimtab up --prometheus http://prom:9090 --dry-run", "show what would be watched"),
    ),
)
def up(
    config: ConfigFile = None,
    prometheus: PrometheusUrl = None,
    data: DataDir = None,
    host: Host = None,
    port: Port = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show settings and series without starting.")
    ] = False,
) -> None:
    """Watch metric series: engine, API and dashboard in one process."""
    from trimtab.engine.settings.settings_file import load_settings

    path, overrides = find_config_file(config), settings_overrides(data, prometheus, host, port)
    settings = load_settings(path, os.environ, overrides)
    if dry_run:
        from trimtab.engine.cli.doctor.doctor import dry_run_text

        print(dry_run_text(settings))
        return
    gc.disable()  # collecting objects that stay takes a tenth of the start; the engine enables it again
    from trimtab.engine.runtime.app import serve

    serve(settings, config=path, environ=os.environ, overrides=overrides)


@app.command(
    rich_help_panel=RECORDINGS,
    epilog=examples(
        ("trimtab score cpu.csv", "write cpu.scored.csv"),
        ("trimtab score all.parquet -o scored.parquet --detector ew_zscore", "one detector only"),
        ("trimtab score cpu.csv.gz -o - | head", "to the terminal"),
    ),
)
def score(
    source: Recording,
    output: OutputFile = None,
    detector: Detectors = None,
    false_alarms_per_week: FalseAlarms = 1.0,
    interval: RowInterval = "1m",
) -> None:
    """Score a recording: each row by the rows before it."""
    from rich.console import Console

    from trimtab.engine.platform.kernel_warmup import prepare_default_environment

    prepare_default_environment()  # before numba is imported

    from trimtab.pipelines.scoring.score_file import score_file

    score_file(
        source,
        output,
        detectors=tuple(detector or ("default",)),
        false_alarms_per_week=false_alarms_per_week,
        interval=interval,
        console=Console(stderr=True),
    )


app.command(
    rich_help_panel=RECORDINGS,
    epilog=examples(
        ("trimtab forecast load.csv --horizon 24h", "write load.forecast.csv and print the confidence"),
        ("trimtab forecast load.parquet --horizon 1h --quantiles 0.5,0.95 -o -", "to the terminal"),
    ),
)(forecast)
app.command(
    rich_help_panel=RECORDINGS,
    epilog=examples(
        ("trimtab backtest cpu.csv", "report the anomalies of a recording: write cpu.backtest/report.md"),
        (
            "trimtab backtest cpu.csv --labels outages.csv --least-found 0.8",
            "exit code 1 = not good enough",
        ),
    ),
)(backtest)


@app.command(
    rich_help_panel=CARE,
    epilog=examples(
        ("trimtab doctor --prometheus http://prom:9090", "check whether Trimtab can watch that Prometheus"),
        ("trimtab doctor -f json", "JSON; exit code 1 = problems found, 3 = a source is unreachable"),
    ),
)
def doctor(
    config: ConfigFile = None,
    prometheus: PrometheusUrl = None,
    data: DataDir = None,
    host: Host = None,
    port: Port = None,
    form: Format = OutputFormat.TABLE,
) -> None:
    """Check settings, data folder, sources, tools, port, disk and clock."""
    from trimtab.engine.cli.doctor.doctor import COLUMNS, exit_code, run_checks

    checks = run_checks(
        find_config_file(config), os.environ, settings_overrides(data, prometheus, host, port)
    )
    print(format_rows([check.as_row() for check in checks], COLUMNS, form))
    raise typer.Exit(exit_code(checks))


for command, epilog in (
    (pause, examples(("trimtab pause --reason 'release tonight'", "the kill switch"))),
    (resume, examples(("trimtab resume", "allow actions again"))),
    (actions, examples(("trimtab actions -f json", "list the actions as JSON"))),
    (recommend, examples(("trimtab recommend --redis redis://localhost:6379", "check a Redis"))),
    (grant, examples(("trimtab grant redis", "print the statements that create a least-privilege account"))),
):
    app.command(rich_help_panel=ACT, epilog=epilog)(command)
app.add_typer(silence_app, name="silence", rich_help_panel=ACT)
app.command(
    rich_help_panel=CARE,
    epilog=examples(
        ("trimtab retrain", "train the load model now"),
        (
            "trimtab retrain load --history 'rate(http_requests_total[5m])' --since 14d",
            "train on these series",
        ),
    ),
)(retrain)
app.add_typer(audit_app, name="audit", rich_help_panel=ACT)


def main() -> None:
    """Run the command given by the arguments of this process, and exit with its code."""
    run_guarded(app)

"""`trimtab forecast`: forecasts recorded series."""

from typing import Annotated

import typer

from trimtab.engine.cli.options import OutputFile, Recording, RowInterval


def forecast(
    source: Recording,
    horizon: Annotated[str, typer.Option(metavar="D", help="Horizon, such as 1h, 24h or 7d.")] = "24h",
    quantiles: Annotated[
        str, typer.Option(metavar="Q,Q", help="Ascending quantiles between 0.05 and 0.99.")
    ] = "0.05,0.5,0.9,0.95,0.99",
    output: OutputFile = None,
    interval: RowInterval = "1m",
    events: Annotated[
        str, typer.Option(metavar="DAY,DAY", help="Holidays and other special days, such as 2026-12-25.")
    ] = "",
) -> None:
    """Forecast a recording: quantiles of future values, and their confidence."""
    from rich.console import Console

    from trimtab.engine.platform.kernel_warmup import prepare_default_environment

    prepare_default_environment()  # before numba is imported

    from trimtab.pipelines.forecasting.forecast_file import forecast_file, parse_quantiles

    forecast_file(
        source,
        output,
        horizon=horizon,
        quantiles=parse_quantiles(quantiles),
        interval=interval,
        events=[day for day in events.split(",") if day.strip()],
        console=Console(stderr=True),
    )

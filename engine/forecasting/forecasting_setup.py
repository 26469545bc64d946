"""Builds load forecasting and model training."""

from collections.abc import Callable, Mapping
from pathlib import Path

from trimtab.engine.forecasting.forecast_service import ForecastService
from trimtab.engine.forecasting.retraining import Retraining
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.platform.child_process import ModelProcess
from trimtab.engine.ports import Clock, Ledger
from trimtab.engine.settings import Settings


def build_retraining(
    settings: Settings,
    config: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
    found: Callable[[], str | None],
    ledger: Ledger,
    clock: Clock,
    metrics: Metrics,
) -> Retraining | None:
    """Build retraining with its forecast service; None if `schedulers.load` is disabled.

    config    : settings file; None = no file
    overrides : dotted name -> value from the command line
    environ   : environment of the child process
    found     : returns the URL of a Prometheus found on this machine; None = none
    """
    scheduler, data_dir = settings.schedulers.load, settings.settings.data_dir
    if not scheduler.enabled:
        return None
    told = {**overrides, "settings.data_dir": str(data_dir)}

    def request() -> dict[str, object]:
        return {"config": str(config) if config else None, "overrides": told, "found": found()}

    child = ModelProcess(request, environ)
    forecasting = ForecastService(
        data_dir, scheduler, settings.registry, child, ledger, clock, metrics.set_forecast_error
    )
    return Retraining(data_dir, scheduler, forecasting, child, clock)

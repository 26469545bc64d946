"""Settings `schedulers:` and `registry:`, the training of models and the model registry."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from trimtab.engine.settings.section import Duration, Section
from trimtab.engine.settings.urls import check_http_url


class LoadScheduler(Section):
    """`schedulers.load:` load forecasts and the training of their model. Durations in seconds."""

    model_config = ConfigDict(populate_by_name=True)

    enabled: bool = True
    kind: Literal["periodic"] = Field("periodic", alias="class")
    every: Duration = 86_400.0
    """Time between trainings."""
    first: Duration = 900.0
    """Time from the start to the first training if there is no champion."""
    fit_window: Duration = 14 * 86_400.0
    step: Duration = Field(300.0, ge=10.0)
    horizon: Duration = 86_400.0
    refresh: Duration = 300.0
    """Time between forecasts."""
    series: str = Field("", max_length=2000)
    """Regular expression that matches part of the names of the series to forecast; "" = all load series."""
    max_series: int = Field(200, ge=1, le=10_000)

    @field_validator("series")
    @classmethod
    def _validate_series(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _validate_horizon(self) -> Self:
        if self.step > self.horizon:
            raise ValueError(
                f"horizon is {self.horizon:g} s, less than one step of {self.step:g} s; raise horizon "
                "or lower step"
            )
        if self.horizon > self.fit_window:
            raise ValueError(
                f"fit_window is {self.fit_window:g} s, less than the horizon of {self.horizon:g} s "
                "(evaluation needs three times the horizon); raise fit_window or lower horizon"
            )
        return self

    @property
    def rows(self) -> int:
        """Number of steps in the horizon."""
        return max(round(self.horizon / self.step), 1)


class Schedulers(Section):
    """`schedulers:` periodic jobs."""

    load: LoadScheduler = LoadScheduler()


class ModelRegistry(Section):
    """`registry:` the model registry."""

    tracking_uri: str = ""
    """URL of an MLflow tracking server; "" = SQLite in the data folder."""
    username: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None
    sync: Duration = 600.0
    """Seconds between checks for a champion that was set by another process."""
    shadow: Duration = 6 * 3600.0
    """Seconds that a challenger runs in shadow mode before it may replace the champion."""
    trusted_types: tuple[str, ...] = ()
    """Types that a scikit-learn model may contain in addition to those that skops trusts."""

    @field_validator("tracking_uri")
    @classmethod
    def _validate_tracking_uri(cls, value: str) -> str:
        return value and check_http_url(
            value, "http://mlflow:5000, or leave the line out", "registry.username and password_file"
        )

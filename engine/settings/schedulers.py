"""`schedulers:` and `registry:`: what is trained when, from what, and where models are registered."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from trimtab.engine.settings.section import Duration, Section
from trimtab.engine.settings.urls import check_http_url


class LoadScheduler(Section):
    """`schedulers.load:` load forecasts, and the model that makes them."""

    model_config = ConfigDict(populate_by_name=True)

    enabled: bool = True
    kind: Literal["periodic"] = Field("periodic", alias="class")
    every: Duration = 86_400.0
    """Between trainings."""
    first: Duration = 900.0
    """After a start, before the first training where there is no champion."""
    fit_window: Duration = 14 * 86_400.0
    step: Duration = Field(300.0, ge=10.0)
    horizon: Duration = 86_400.0
    refresh: Duration = 300.0
    """Between forecasts."""
    series: str = Field("", max_length=2000)
    """A regular expression that the name of a series must hold to be forecast; "" = all that are a load."""
    max_series: int = Field(200, ge=1, le=10_000)

    @field_validator("series")
    @classmethod
    def _is_an_expression(cls, given: str) -> str:
        try:
            re.compile(given)
        except re.error as error:
            raise ValueError(f"{given!r} is no regular expression: {error}") from None
        return given

    @model_validator(mode="after")
    def _horizon_holds_steps(self) -> Self:
        if self.step > self.horizon:
            raise ValueError(
                f"horizon is {self.horizon:g} s, at least one step of {self.step:g} s is wanted; raise it, "
                "or lower step"
            )
        if self.horizon > self.fit_window:
            raise ValueError(
                f"fit_window is {self.fit_window:g} s, at least the horizon of {self.horizon:g} s is wanted, "
                "and for a judgement three of it; look further back, or lower horizon"
            )
        return self

    @property
    def rows(self) -> int:
        """Steps of the horizon."""
        return max(round(self.horizon / self.step), 1)


class Schedulers(Section):
    """`schedulers:`"""

    load: LoadScheduler = LoadScheduler()


class ModelRegistry(Section):
    """`registry:` of models."""

    tracking_uri: str = ""
    """An MLflow tracking server, http(s)://...; "" = SQLite in the data folder."""
    username: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None
    sync: Duration = 600.0
    """Between looks for a champion that was named elsewhere."""
    shadow: Duration = 6 * 3600.0
    """So long a challenger forecasts beside the champion before it may take its place."""
    trusted_types: tuple[str, ...] = ()
    """Types that a scikit-learn model may hold beside those that skops knows as harmless."""

    @field_validator("tracking_uri")
    @classmethod
    def _is_a_server(cls, given: str) -> str:
        return given and check_http_url(
            given, "http://mlflow:5000, or leave the line out", "registry.username and password_file"
        )

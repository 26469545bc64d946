"""The schema a load model is made for, and whether it matches a request."""

from collections.abc import Mapping
from typing import Any

from trimtab.pipelines.io.stored_forecasts import QUANTILES

REQUIRED_FIELDS = ("step_s", "horizon", "quantiles")
"""Schema fields that a request determines; the others belong to the model."""


def required_schema(step_s: float, horizon: int) -> dict[str, Any]:
    """Return the schema that a model must have to answer a request.

    step_s  : seconds per row
    horizon : rows ahead
    """
    return {"step_s": step_s, "horizon": horizon, "quantiles": list(QUANTILES)}


def schema_mismatch(schema: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return why a model of this schema cannot answer a request; "" = it can.

    >>> schema_mismatch(required_schema(300.0, 288), required_schema(60.0, 1440))
    'it is made for 288 steps of 300 s, but 1440 steps of 60 s are required'
    """
    changed = [name for name in REQUIRED_FIELDS if schema.get(name) != wanted.get(name)]
    if not changed:
        return ""
    if changed == ["quantiles"]:
        return (
            f"it is made for the quantiles {schema.get('quantiles')}, but "
            f"{wanted.get('quantiles')} are required"
        )
    return f"it is made for {_describe(schema)}, but {_describe(wanted)} are required"


def _describe(schema: Mapping[str, Any]) -> str:
    step_s = schema.get("step_s")
    step = f"{step_s:g} s" if isinstance(step_s, int | float) else "unknown length"
    return f"{schema.get('horizon', 'unknown')} steps of {step}"

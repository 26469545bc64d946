"""What a model of loads is asked with, and whether it was made for that."""

from collections.abc import Mapping
from typing import Any

from trimtab.pipelines.io.stored_forecasts import QUANTILES

REQUIRED_FIELDS = ("step_s", "horizon", "quantiles")
"""Of a schema, what whoever asks decides; the rest is the model's own."""


def required_schema(step_s: float, horizon: int) -> dict[str, Any]:
    """What is asked of a model, as the schema of one that is made for it says.

    step_s : seconds from row to row;  horizon : rows ahead
    """
    return {"step_s": step_s, "horizon": horizon, "quantiles": list(QUANTILES)}


def schema_mismatch(schema: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Why a model of this schema cannot be asked so, in words; "" = it can.

    >>> schema_mismatch(required_schema(300.0, 288), required_schema(60.0, 1440))
    'it is made for 288 steps of 300 s, and 1440 steps of 60 s are asked'
    """
    changed = [name for name in REQUIRED_FIELDS if schema.get(name) != wanted.get(name)]
    if not changed:
        return ""
    if changed == ["quantiles"]:
        return (
            f"it is made for the quantiles {schema.get('quantiles')}, and {wanted.get('quantiles')} are asked"
        )
    return f"it is made for {_words(schema)}, and {_words(wanted)} are asked"


def _words(schema: Mapping[str, Any]) -> str:
    step_s = schema.get("step_s")
    step = f"{step_s:g} s" if isinstance(step_s, int | float) else "unknown length"
    return f"{schema.get('horizon', 'unknown')} steps of {step}"

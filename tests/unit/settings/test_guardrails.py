"""Settings `guardrails:` and the modes of tools."""

import pytest
from pydantic import BaseModel, ValidationError

from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Guardrails
from trimtab.engine.settings.guardrails import ModeName, Modes, mode_of
from trimtab.engine.settings.settings_file import load_settings
from trimtab.engine.types import Mode


class Holder(BaseModel):
    mode: Modes


def load(tmp_path, text):
    """The guardrails of a settings file."""
    path = tmp_path / "trimtab.yaml"
    path.write_text(text)
    return load_settings(path, {}).guardrails


def test_defaults():
    """Without a file every limit has its documented default."""
    limits = load_settings(None, {}).guardrails
    minutes = {
        "hold": 5, "persistence": 3, "cooldown": 15, "cooldown_after_rollback": 60, "reversal": 30,
        "lock": 360, "targets_within": 10, "plan_life": 5, "approval_life": 15, "settle": 5, "watch": 10,
    }  # fmt: skip
    assert {name: getattr(limits, name) / 60 for name in minutes} == minutes
    rest = limits.model_dump(exclude=set(minutes))
    assert rest == {
        "time_scale": 1.0, "fresh_intervals": 3.0, "window_present": 0.9, "unit_jump": 100.0, "window": 600.0,
        "suspicion": 21_600.0,
        "dead_band": 0.1, "evaluations": 3, "reversals": 2, "running_per_target": 1,
        "running": 2, "per_hour": 6, "per_day": 20,
        "targets_share": 0.1, "step": 0.25, "growth": 2.0, "fewest_replicas": 2, "memory_share": 0.85,
        "mass_series": 0.3, "mass_series_least": 5, "mass_sources": 0.45, "bad_checks": 3,
        "action_timeout": 30.0, "webhook_timeout": 10.0, "warm_per_s": 10.0,
        "warm_share": 0.05, "warm_errors": 0.01,
    }  # fmt: skip


def test_a_file_sets_limits(tmp_path):
    """Durations accept units."""
    limits = load(tmp_path, "guardrails: {cooldown: 20m, per_hour: 3, time_scale: 0.05}")
    assert (limits.cooldown, limits.per_hour, limits.time_scale) == (1200.0, 3, 0.05)


@pytest.mark.parametrize(
    "wrong",
    ["time_scale: 0", "time_scale: 1.1", "running: 0", "memory_share: 1.2", "cooldown: 0s", "cooldwn: 1s",
     "dead_band: 1", "growth: 1", "unit_jump: 1", "step: .inf"],
)  # fmt: skip
def test_an_invalid_limit_is_refused(tmp_path, wrong):
    """A limit that would disable a guardrail, or is misspelt, is an error with its origin."""
    with pytest.raises(SettingsError, match=r"trimtab\.yaml:1: guardrails\."):
        load(tmp_path, f"guardrails: {{{wrong}}}")


def test_times_are_scaled_for_trials_only():
    """A trial has every duration scaled except call timeouts; other targets have none."""
    limits = Guardrails(time_scale=0.1)
    assert limits.scaled(trial=False) == Guardrails()
    trial, whole = limits.scaled(trial=True), Guardrails()
    scaled = {name for name in Guardrails.model_fields if getattr(trial, name) != getattr(whole, name)}
    assert scaled == {
        "time_scale", "hold", "persistence", "cooldown", "cooldown_after_rollback", "reversal", "lock",
        "targets_within", "plan_life", "approval_life", "settle", "watch",
    }  # fmt: skip
    assert trial.lock == pytest.approx(2160.0)


def test_modes_are_those_of_the_engine():
    """The mode names of the settings are the engine's modes."""
    assert list(ModeName.__args__) == list(Mode)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auto", "auto"),
        (False, "off"),  # how YAML reads a bare off
        ({"maxmemory": "auto", "*": False}, {"maxmemory": "auto", "*": "off"}),
    ],
)
def test_a_mode_is_a_name_or_a_mapping(value, expected):
    """One mode or a mapping; YAML's bare `off` is off."""
    assert Holder(mode=value).mode == expected


@pytest.mark.parametrize("wrong", [True, "on", {"maxmemory": "always"}, 3, ["auto"]])
def test_an_unknown_mode_is_refused(wrong):
    """An unknown mode is an error."""
    with pytest.raises(ValidationError):
        Holder(mode=wrong)


@pytest.mark.parametrize(
    ("modes", "target", "subject", "mode"),
    [
        ("auto", "a", "x", "auto"),
        ({}, "a", "x", "recommend"),
        ({"y": "auto"}, "a", "x", "recommend"),
        ({"x": "approve", "*": "auto"}, "a", "x", "approve"),
        ({"x": "auto", "a/*": "off"}, "a", "x", "off"),  # a whole target precedes a knob of all targets
        ({"a/x": "auto", "a/*": "off", "x": "approve"}, "a", "x", "auto"),
        ({"a/x": "auto"}, "b", "x", "recommend"),
    ],
)
def test_the_most_specific_mode_applies(modes, target, subject, mode):
    """Knob of a target first, then target, then knob, then everything else."""
    assert mode_of(modes, target, subject) == mode

"""Settings `registry:` and `schedulers:`."""

import pytest
from pydantic import ValidationError

from trimtab.engine.errors import SettingsError
from trimtab.engine.forecasting.model_worker import ModelFolders
from trimtab.engine.settings import Settings


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"registry": {"tracking_uri": "http://ann:geheim@mlflow:5000"}}, "password_file"),
        ({"registry": {"tracking_uri": "http://"}}, "not an http or https URL"),
        ({"registry": {"tracking_uri": "file:///tmp/mlflow"}}, "not an http or https URL"),
        ({"schedulers": {"load": {"series": "requests{("}}}, "not a regular expression"),
    ],
)
def test_contradictory_settings_are_refused(section, words):
    """They are refused at startup, not hours later during a training."""
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate(section)


def test_a_missing_password_file_is_named(tmp_path):
    """The error names the file."""
    registry = {"tracking_uri": "http://mlflow:5000", "username": "ann", "password_file": tmp_path / "gone"}
    with pytest.raises(SettingsError, match=r"registry\.password_file .*gone"):
        ModelFolders(tmp_path).workspace(Settings.model_validate({"registry": registry}), {})

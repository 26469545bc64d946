"""What `registry:` and `schedulers:` may say."""

import pytest
from pydantic import ValidationError

from trimtab.engine.errors import SettingsError
from trimtab.engine.forecasting.model_worker import ModelFolders
from trimtab.engine.settings import Settings


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"registry": {"tracking_uri": "http://ann:geheim@mlflow:5000"}}, "password_file"),
        ({"registry": {"tracking_uri": "http://"}}, "no http or https URL"),
        ({"registry": {"tracking_uri": "file:///tmp/mlflow"}}, "no http or https URL"),
        ({"schedulers": {"load": {"series": "requests{("}}}, "no regular expression"),
    ],
)
def test_settings_that_cannot_be_meant(section, words):
    """Each says what is wrong at once, not hours later where a model is trained."""
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate(section)


def test_a_password_file_that_is_missing_is_named(tmp_path):
    """Who looks after the engine is told which file it is."""
    registry = {"tracking_uri": "http://mlflow:5000", "username": "ann", "password_file": tmp_path / "gone"}
    with pytest.raises(SettingsError, match=r"registry\.password_file .*gone"):
        ModelFolders(tmp_path).workspace(Settings.model_validate({"registry": registry}), {})

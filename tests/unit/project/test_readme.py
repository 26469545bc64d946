"""What README.md shows is so."""

import re
from pathlib import Path

import typer

from trimtab.engine.cli.main import app
from trimtab.engine.settings.settings_file import load_settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_the_settings_shown_are_taken(tmp_path):
    """The example of trimtab.yaml is read without a complaint, and says what its comments say."""
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "trimtab.yaml"
    file.write_text(example)
    settings = load_settings(file, {}, {})
    assert settings.schedulers.load.fit_window == 14 * 86_400.0
    assert list(settings.capacity) == ["checkout"]


def test_the_commands_shown_are_there():
    """Each `trimtab COMMAND` of the text is one of the command line."""
    known = set(typer.main.get_command(app).commands)
    shown = set(re.findall(r"\.venv/bin/trimtab (\w+)", TEXT))
    assert len(shown) > 8
    assert shown <= known


def test_the_links_lead_somewhere():
    """Each link to this folder leads to a file or folder that is there."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []

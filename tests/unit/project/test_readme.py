"""The examples and links in README.md are valid."""

import re
from pathlib import Path

import typer

from trimtab.engine.cli.main import app
from trimtab.engine.settings.settings_file import load_settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_example_settings_load(tmp_path):
    """The example trimtab.yaml loads with the values its comments state."""
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "trimtab.yaml"
    file.write_text(example)
    settings = load_settings(file, {}, {})
    assert settings.schedulers.load.fit_window == 14 * 86_400.0
    assert list(settings.capacity) == ["checkout"]


def test_commands_exist():
    """Each `trimtab COMMAND` in the text exists."""
    known = set(typer.main.get_command(app).commands)
    shown = set(re.findall(r"\.venv/bin/trimtab (\w+)", TEXT))
    assert len(shown) > 8
    assert shown <= known


def test_links_lead_to_files():
    """Each relative link leads to an existing file or folder."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []

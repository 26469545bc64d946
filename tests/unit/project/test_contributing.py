"""The examples in CONTRIBUTING.md keep the contracts they describe."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.builders.series import START, tick_scores
from tests.fakes.ports import FakeClock
from tests.unit.models import test_detector_contract as contract
from tests.unit.models import test_forecaster_contract as forecasters
from trimtab.engine import settings
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, SourceError, ToolError
from trimtab.engine.ports import Source, Tool
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.types import SeriesKey, ToolState
from trimtab.models.contracts import Detector, Forecaster

TEXT = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))
"""Path that an example would have -> its text."""


@pytest.fixture
def load_example(tmp_path, monkeypatch):
    """A function that imports an example under its file name."""

    def import_example(path):
        file = tmp_path / Path(path).name
        file.write_text(EXAMPLES[path])
        spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return import_example


def test_the_detector_keeps_the_contract(load_example):
    """The example detector scores before it learns and detects a jump; scoring does not change it."""
    example = load_example("models/detectors/jump.py").Jump(contract.N)
    assert isinstance(example, Detector)
    x, t = contract.make_series()
    past = example.run(x, t)
    assert np.isfinite(past[-100:]).any()
    normal = np.where(np.isnan(x[-1]), 7.0, x[-1])
    anomalous = normal + 1000.0
    before = {name: array.copy() for name, array in example.state().items()}
    statistic = example.score(anomalous, int(t[-1]) + contract.INTERVAL_NS)
    assert all(np.array_equal(before[name], array) for name, array in example.state().items())
    known = np.isfinite(statistic)
    assert known.any()
    assert (statistic[known] > 20).all()


def test_the_catalogue_line_has_the_form_of_the_others():
    """The example catalogue line has the form of the others."""
    name, home = re.search(r'^    "(\w+)": "([\w.]+:\w+)",$', TEXT, re.MULTILINE).groups()
    assert home == f"trimtab.models.detectors.{name}:{name.title()}"


def test_the_forecaster_keeps_the_contract(load_example):
    """The example forecaster returns ascending quantiles, NaN without history, and an empty state."""
    example = load_example("models/forecasters/steady.py").Steady()
    assert isinstance(example, Forecaster)
    y = forecasters.make_values(3)
    example.fit(forecasters.make_panel(y))
    forecast = forecasters.predict(example, y)
    assert forecast.shape == (len(forecasters.QUANTILES), 30, forecasters.N)
    assert np.isnan(forecast[:, :, 7]).all()
    assert (np.diff(forecast[:, :, :5], axis=0) >= 0).all()
    assert forecast[1, 0, 0] == np.quantile(y[-24:, 0], 0.5)
    assert '"steady": "trimtab.models.forecasters.steady:Steady"' in TEXT
    assert example.state() == {}


async def test_the_source_reads_and_reports_errors(load_example, tmp_path, monkeypatch):
    """The example source reads its folder, and raises SourceError if the folder is missing."""
    section = SimpleNamespace(folder=tmp_path / "spool", interval=15.0)
    monkeypatch.setattr(settings, "Spool", SimpleNamespace, raising=False)
    section.folder.mkdir()
    (section.folder / "job").write_bytes(b"1234")
    source = load_example("engine/sources/spool.py").SpoolSource(section, FakeClock())
    await source.open()
    reading = await source.read()
    assert dict(zip((key.metric for key in reading.keys), reading.values.tolist(), strict=True)) == {
        "spool_files": 1.0,
        "spool_bytes": 4.0,
    }
    assert [chunk async for chunk in source.history(0)] == []
    assert {name for name in dir(Source) if not name.startswith("_")} <= set(dir(source))
    (section.folder / "job").unlink()
    section.folder.rmdir()
    with pytest.raises(SourceError, match=r"sources\.spool\.folder"):
        await source.read()


async def test_the_tool_compares_and_sets(load_example, tmp_path, monkeypatch):
    """The example tool implements the port, changes only the expected value, and reports errors."""

    class SwitchFileTool(ToolSettings):
        file: Path

    home = ModuleType("trimtab.engine.settings.tools_switch")
    monkeypatch.setitem(sys.modules, home.__name__, home)
    home.SwitchFileTool = SwitchFileTool
    part = SwitchFileTool(kind="switch_file", file=tmp_path / "down")
    tool = load_example("engine/tools/switch_file.py").SwitchFile("page", part)
    assert {name for name in dir(Tool) if not name.startswith("_")} <= set(dir(tool))
    assert (await tool.status()).state is ToolState.UP
    assert (await tool.apply("page", "present", False, True)).after is True
    assert await tool.metrics("page") == {"switch_file_present": 1.0}
    with pytest.raises(ConflictError):
        await tool.apply("page", "present", False, True)
    assert (await tool.apply("page", "present", True, None)).after is False
    assert not (await tool.read("page", "present")).set_here
    with pytest.raises(RefusedError):
        await tool.apply("page", "present", False, "yes")
    for call in (tool.read("page", "size"), tool.run("page", "burn", "key")):
        with pytest.raises(NotFoundError):
            await call
    assert tool.command("page", "present", True) == f"touch {part.file}"
    broken = load_example("engine/tools/switch_file.py").SwitchFile(
        "page", part.model_copy(update={"file": tmp_path / "a/b"})
    )
    assert (await broken.status()).state is ToolState.UNREACHABLE
    with pytest.raises(ToolError):
        await broken.apply("page", "present", False, True)


async def test_the_sink_writes_anomalies(load_example, tmp_path):
    """The example sink writes anomalous samples only, and raises nothing if it cannot write."""
    keys = [SeriesKey.of("host", name) for name in ("calm", "wild")]
    scores = tick_scores("host", START, [1.0, 2.0], anomaly_score=[0.2, 1.5])
    example = load_example("engine/sinks/json_lines.py").JsonLinesSink
    await example(tmp_path / "out").send(keys, scores)
    assert [json.loads(line)["series"] for line in (tmp_path / "out").read_text().splitlines()] == ["wild"]
    await example(tmp_path / "no" / "such" / "folder").send(keys, scores)

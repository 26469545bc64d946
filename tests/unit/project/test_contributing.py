"""The worked examples of CONTRIBUTING.md do what it says."""

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
def load(tmp_path, monkeypatch):
    """A function that imports an example under the file name that it says."""

    def loaded(path):
        file = tmp_path / Path(path).name
        file.write_text(EXAMPLES[path])
        spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return loaded


def test_the_detector_keeps_the_contract(load):
    """The example of a detector scores before it learns, finds a jump, and scoring changes nothing."""
    made = load("models/detectors/jump.py").Jump(contract.N)
    assert isinstance(made, Detector)
    x, t = contract.make_series()
    past = made.run(x, t)
    assert np.isfinite(past[-100:]).any()
    calm = np.where(np.isnan(x[-1]), 7.0, x[-1])
    wild = calm + 1000.0
    before = {name: array.copy() for name, array in made.state().items()}
    statistic = made.score(wild, int(t[-1]) + contract.INTERVAL_NS)
    assert all(np.array_equal(before[name], array) for name, array in made.state().items())
    known = np.isfinite(statistic)
    assert known.any()
    assert (statistic[known] > 20).all()


def test_the_catalogue_line_has_the_form_of_the_others():
    """The line that CONTRIBUTING.md shows is one that the catalogue could hold."""
    name, home = re.search(r'^    "(\w+)": "([\w.]+:\w+)",$', TEXT, re.MULTILINE).groups()
    assert home == f"trimtab.models.detectors.{name}:{name.title()}"


def test_the_forecaster_keeps_the_contract(load):
    """The example of a forecaster gives rising quantiles, NaN where it knows nothing, and has no state."""
    made = load("models/forecasters/steady.py").Steady()
    assert isinstance(made, Forecaster)
    y = forecasters.make_values(3)
    made.fit(forecasters.make_panel(y))
    found = forecasters.predict(made, y)
    assert found.shape == (len(forecasters.QUANTILES), 30, forecasters.N)
    assert np.isnan(found[:, :, 7]).all()
    assert (np.diff(found[:, :, :5], axis=0) >= 0).all()
    assert found[1, 0, 0] == np.quantile(y[-24:, 0], 0.5)
    assert '"steady": "trimtab.models.forecasters.steady:Steady"' in TEXT
    assert made.state() == {}


async def test_the_source_reads_and_says_when_it_cannot(load, tmp_path, monkeypatch):
    """The example of a source gives what is there, and SourceError once its folder is gone."""
    section = SimpleNamespace(folder=tmp_path / "spool", interval=15.0)
    monkeypatch.setattr(settings, "Spool", SimpleNamespace, raising=False)
    section.folder.mkdir()
    (section.folder / "job").write_bytes(b"1234")
    source = load("engine/sources/spool.py").SpoolSource(section, FakeClock())
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


async def test_the_tool_compares_and_sets(load, tmp_path, monkeypatch):
    """The example of a tool keeps the port, changes what is as expected only, and says what it cannot."""

    class SwitchFileTool(ToolSettings):
        file: Path

    home = ModuleType("trimtab.engine.settings.tools_switch")
    monkeypatch.setitem(sys.modules, home.__name__, home)
    home.SwitchFileTool = SwitchFileTool
    part = SwitchFileTool(kind="switch_file", file=tmp_path / "down")
    tool = load("engine/tools/switch_file.py").SwitchFile("page", part)
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
    lost = load("engine/tools/switch_file.py").SwitchFile(
        "page", part.model_copy(update={"file": tmp_path / "a/b"})
    )
    assert (await lost.status()).state is ToolState.UNREACHABLE
    with pytest.raises(ToolError):
        await lost.apply("page", "present", False, True)


async def test_the_sink_writes_what_is_unusual(load, tmp_path):
    """The example of a sink writes unusual samples only, and raises nothing where it cannot."""
    keys = [SeriesKey.of("host", name) for name in ("calm", "wild")]
    scores = tick_scores("host", START, [1.0, 2.0], anomaly_score=[0.2, 1.5])
    made = load("engine/sinks/json_lines.py").JsonLinesSink
    await made(tmp_path / "out").send(keys, scores)
    assert [json.loads(line)["series"] for line in (tmp_path / "out").read_text().splitlines()] == ["wild"]
    await made(tmp_path / "no" / "such" / "folder").send(keys, scores)

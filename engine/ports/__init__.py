"""The doors between the core and the world. Fakes stand beside them in tests/fakes.py."""

from trimtab.engine.ports.acting import Desk, IncidentDesk, TargetView, Toolbox, ToolView
from trimtab.engine.ports.keeping import Incidents, Ledger, Memory, ScoreLog, Snapshots, Store
from trimtab.engine.ports.modelling import Modelling
from trimtab.engine.ports.notifying import Notifier
from trimtab.engine.ports.tools import Tool, Warms
from trimtab.engine.ports.watching import Clock, LiveView, Sink, Source

__all__ = [
    "Clock",
    "Desk",
    "IncidentDesk",
    "Incidents",
    "Ledger",
    "LiveView",
    "Memory",
    "Modelling",
    "Notifier",
    "ScoreLog",
    "Sink",
    "Snapshots",
    "Source",
    "Store",
    "TargetView",
    "Tool",
    "ToolView",
    "Toolbox",
    "Warms",
]

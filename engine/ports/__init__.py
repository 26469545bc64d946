"""The doors between the core and the world. Fakes stand beside them in tests/fakes/ports.py."""

from trimtab.engine.ports.model_port import Modelling
from trimtab.engine.ports.notifier_port import Notifier
from trimtab.engine.ports.operator_ports import Desk, IncidentDesk, TargetView, Toolbox, ToolView
from trimtab.engine.ports.source_ports import Clock, LiveView, Sink, Source
from trimtab.engine.ports.storage_ports import Incidents, Ledger, Memory, ScoreLog, Snapshots, Store
from trimtab.engine.ports.tool_port import Tool, Warms

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

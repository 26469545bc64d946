"""Ports: the protocols that sources, sinks, tools, channels and stores implement. Fakes: tests/fakes."""

from trimtab.engine.ports.model_port import ModelService
from trimtab.engine.ports.notifier_port import Notifier
from trimtab.engine.ports.operator_ports import (
    IncidentActions,
    OperatorDecisions,
    TargetView,
    Toolbox,
    ToolView,
)
from trimtab.engine.ports.source_ports import Clock, LiveView, Sink, Source
from trimtab.engine.ports.storage_ports import Incidents, KeyValueStore, Ledger, ScoreLog, Snapshots, Store
from trimtab.engine.ports.tool_port import CacheWarmer, Tool

__all__ = [
    "CacheWarmer",
    "Clock",
    "IncidentActions",
    "Incidents",
    "KeyValueStore",
    "Ledger",
    "LiveView",
    "ModelService",
    "Notifier",
    "OperatorDecisions",
    "ScoreLog",
    "Sink",
    "Snapshots",
    "Source",
    "Store",
    "TargetView",
    "Tool",
    "ToolView",
    "Toolbox",
]

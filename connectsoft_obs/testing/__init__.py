"""Test utilities for instrumented services: capture telemetry without a network. Names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectsoft_obs.testing.captured_telemetry import Captured as Captured
    from connectsoft_obs.testing.captured_telemetry import MetricValue as MetricValue
    from connectsoft_obs.testing.clock import Clock as Clock
    from connectsoft_obs.testing.clock import frozen_clock as frozen_clock
    from connectsoft_obs.testing.ids import fixed_ids as fixed_ids
    from connectsoft_obs.testing.probe_contract import assert_probe_contract as assert_probe_contract
    from connectsoft_obs.testing.semantic_conventions import Finding as Finding
    from connectsoft_obs.testing.semantic_conventions import assert_conventions as assert_conventions
    from connectsoft_obs.testing.semantic_conventions import findings as findings
    from connectsoft_obs.testing.telemetry_capture import capture as capture

_MODULE_BY_NAME = {
    "Captured": "captured_telemetry",
    "Clock": "clock",
    "Finding": "semantic_conventions",
    "MetricValue": "captured_telemetry",
    "assert_conventions": "semantic_conventions",
    "assert_probe_contract": "probe_contract",
    "capture": "telemetry_capture",
    "findings": "semantic_conventions",
    "fixed_ids": "ids",
    "frozen_clock": "clock",
}

__all__ = [
    "Captured",
    "Clock",
    "Finding",
    "MetricValue",
    "assert_conventions",
    "assert_probe_contract",
    "capture",
    "findings",
    "fixed_ids",
    "frozen_clock",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _MODULE_BY_NAME:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_MODULE_BY_NAME[name]}"), name)
    globals()[name] = value
    return value

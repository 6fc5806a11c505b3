"""For tests of services: see what they report, without a network. Names are resolved when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectsoft_obs.testing.clock import Clock as Clock
    from connectsoft_obs.testing.clock import frozen_clock as frozen_clock
    from connectsoft_obs.testing.contract import assert_probe_contract as assert_probe_contract
    from connectsoft_obs.testing.conventions import Finding as Finding
    from connectsoft_obs.testing.conventions import assert_conventions as assert_conventions
    from connectsoft_obs.testing.conventions import findings as findings
    from connectsoft_obs.testing.ids import fixed_ids as fixed_ids
    from connectsoft_obs.testing.isolation import capture as capture
    from connectsoft_obs.testing.seen import Measured as Measured
    from connectsoft_obs.testing.seen import Seen as Seen

_PLACES = {
    "Clock": "clock",
    "Finding": "conventions",
    "Measured": "seen",
    "Seen": "seen",
    "assert_conventions": "conventions",
    "assert_probe_contract": "contract",
    "capture": "isolation",
    "findings": "conventions",
    "fixed_ids": "ids",
    "frozen_clock": "clock",
}

__all__ = [
    "Clock",
    "Finding",
    "Measured",
    "Seen",
    "assert_conventions",
    "assert_probe_contract",
    "capture",
    "findings",
    "fixed_ids",
    "frozen_clock",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _PLACES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value

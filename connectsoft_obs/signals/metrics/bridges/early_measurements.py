"""Measurements of the OpenTelemetry Meter API that are made before OpenTelemetry has a meter provider.

Modules record some at import, before the middleware or `configure()` creates the Telemetry and with it the provider.
OpenTelemetry discards them; here they are stored from the first use of this package on, and recorded again later.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from connectsoft_obs.context.otel_private import lacks_provider, proxy_instrument_methods
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.vocabulary import Signal

MAX_MEASUREMENTS = 10_000
"""Limit of stored measurements; later ones are dropped and counted."""


class EarlyMeasurements:
    """Stores measurements from `start()` to `stop()`. Thread-safe; no method raises.

    A measurement is stored only if its instrument has no provider yet: instruments of a provider that the application
    sets record into it as before.
    """

    def __init__(self) -> None:
        self._measurements: list[tuple[str, Any, Any, Any]] = []
        self._dropped = 0
        self._replaced: list[tuple[type[Any], str, Callable[..., None], Callable[..., None]]] = []
        register_fork_handler(self)

    def start(self) -> None:
        """Store measurements from now on."""
        for instrument_class, method in proxy_instrument_methods():
            original = getattr(instrument_class, method)
            replacement = self._storing_method(method, original)
            self._replaced.append((instrument_class, method, original, replacement))
            setattr(instrument_class, method, replacement)

    def stop(self) -> None:
        """Store nothing more. Idempotent."""
        while self._replaced:
            instrument_class, method, original, replacement = self._replaced.pop()
            if getattr(instrument_class, method) is replacement:
                setattr(instrument_class, method, original)

    def replay(self, internal_telemetry: InternalTelemetry) -> None:
        """Record the stored measurements with the provider that their instruments have now."""
        measurements, self._measurements = self._measurements, []
        for method, instrument, amount, attributes in measurements:
            with internal_telemetry.guard("metrics.meter"):
                getattr(instrument, method)(amount, attributes)
        if self._dropped:
            internal_telemetry.count_dropped(Signal.METRICS, "before_start", self._dropped)
            self._dropped = 0

    def clear(self) -> None:
        """Discard the stored measurements."""
        self._measurements, self._dropped = [], 0

    def after_fork_in_child(self) -> None:
        """In a forked child: keep the values of gauges, which the child inherits; the parent counts its own work."""
        self._measurements = [measurement for measurement in self._measurements if measurement[0] == "set"]
        self._dropped = 0

    def _storing_method(self, method: str, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def store(instrument: Any, amount: Any, attributes: Any = None, context: Any = None) -> None:
            if not lacks_provider(instrument):
                original(instrument, amount, attributes, context)
            elif len(self._measurements) >= MAX_MEASUREMENTS:
                self._dropped += 1
            else:
                with suppress(Exception):  # attributes of any type were accepted before
                    self._measurements.append((method, instrument, amount, attributes and dict(attributes)))

        return store

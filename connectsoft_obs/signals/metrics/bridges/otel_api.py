"""OpenTelemetry's global meter provider, set once: it asks which Telemetry is current each time something is recorded.

So a counter that a library made at import follows `configure()`, `capture()` and a fork. Nothing of the SDK is imported
before something is recorded or observed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import metrics as api

from connectsoft_obs.context.otel_private import Gauge

Arguments = tuple[Any, ...]
Make = Callable[[api.Meter], Any]
Current = Callable[[], "ObservableSource | None"]


class ObservableSource:
    """What the instruments of one Telemetry are made from; implemented by `Meters`. `era` changes with a fork."""

    era = 0

    def instrument(self, arguments: Arguments, make: Make) -> Any:
        """The real instrument, or None where there can be none."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Observable:
    """An instrument with callbacks, and the meter it was asked of."""

    arguments: Arguments
    make: Make


OBSERVABLES: list[Observable] = []
"""Every instrument with callbacks that was asked for in this process; each Telemetry observes them all."""


class _Recorded:
    """An instrument that records into that of the current Telemetry."""

    def __init__(self, current: Current, arguments: Arguments, make: Make) -> None:
        self._current = current
        self._arguments = arguments
        self._make = make
        self._known: tuple[ObservableSource | None, int, Any] = (None, 0, None)

    def _real(self) -> Any:
        source = self._current()
        if source is None:
            return None
        known, era, real = self._known
        if source is not known or source.era != era:
            real = source.instrument(self._arguments, self._make)
            self._known = (source, source.era, real)
        return real


class _Counter(_Recorded, api.Counter):
    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Add to it."""
        if (real := self._real()) is not None:
            real.add(amount, attributes, context)


class _UpDownCounter(_Recorded, api.UpDownCounter):
    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Add to it."""
        if (real := self._real()) is not None:
            real.add(amount, attributes, context)


class _Histogram(_Recorded, api.Histogram):
    def record(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Record a measurement."""
        if (real := self._real()) is not None:
            real.record(amount, attributes, context)


class _Gauge(_Recorded, Gauge):
    def set(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Set it."""
        if (real := self._real()) is not None:
            real.set(amount, attributes, context)


class _ObservableCounter(api.ObservableCounter):
    def __init__(self) -> None:
        pass


class _ObservableUpDownCounter(api.ObservableUpDownCounter):
    def __init__(self) -> None:
        pass


class _ObservableGauge(api.ObservableGauge):
    def __init__(self) -> None:
        pass


class DelegatingMeter(api.Meter):
    """A meter whose instruments belong to whatever Telemetry is current."""

    def __init__(self, current: Current, arguments: Arguments) -> None:
        super().__init__(arguments[0], arguments[1], arguments[2])
        self._current = current
        self._arguments = arguments

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        """A counter."""
        return _Counter(self._current, self._arguments, lambda meter: meter.create_counter(name, unit, description))

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        """A counter that can go down."""
        return _UpDownCounter(
            self._current, self._arguments, lambda meter: meter.create_up_down_counter(name, unit, description)
        )

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        """A distribution."""

        def make(meter: api.Meter) -> api.Histogram:
            advisory = explicit_bucket_boundaries_advisory
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=advisory)

        return _Histogram(self._current, self._arguments, make)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Gauge:
        """A value that is set."""
        return _Gauge(self._current, self._arguments, lambda meter: meter.create_gauge(name, unit, description))

    def create_observable_counter(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> api.ObservableCounter:
        """A counter that is asked for its value."""
        self._observe(lambda meter: meter.create_observable_counter(name, callbacks, unit, description))
        return _ObservableCounter()

    def create_observable_up_down_counter(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> api.ObservableUpDownCounter:
        """A counter that can go down and is asked for its value."""
        self._observe(lambda meter: meter.create_observable_up_down_counter(name, callbacks, unit, description))
        return _ObservableUpDownCounter()

    def create_observable_gauge(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> api.ObservableGauge:
        """A value that is asked for."""
        self._observe(lambda meter: meter.create_observable_gauge(name, callbacks, unit, description))
        return _ObservableGauge()

    def _observe(self, make: Make) -> None:
        OBSERVABLES.append(Observable(self._arguments, make))


class DelegatingMeterProvider(api.MeterProvider):
    """What `metrics.get_meter_provider()` returns."""

    def __init__(self, current: Current) -> None:
        self._current = current

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> api.Meter:
        """A meter that resolves the Telemetry when its instruments record."""
        return DelegatingMeter(self._current, (name, version, schema_url, attributes))

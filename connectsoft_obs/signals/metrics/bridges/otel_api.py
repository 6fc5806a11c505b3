"""The global OpenTelemetry meter provider. Its instruments delegate to those of the current Telemetry when they record.

Instruments that a library creates at import therefore work after `configure()`, within `capture()` and after a fork. The
OpenTelemetry SDK is not imported before a value is recorded or observed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import metrics as api

from connectsoft_obs.context.otel_private import Gauge

MeterArguments = tuple[Any, ...]
CreateInstrument = Callable[[api.Meter], Any]
GetInstrumentSource = Callable[[], "InstrumentSource | None"]


class InstrumentSource:
    """Creates the instruments of one Telemetry; implemented by `OtelMeterBridge`."""

    generation = 0
    """Changes in a forked child; instruments of an earlier generation must not be used."""

    def create_instrument(self, meter_arguments: MeterArguments, create: CreateInstrument) -> Any:
        """Create an instrument, or return None if it cannot be created."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ObservableInstrument:
    """An instrument with callbacks and the arguments of its meter."""

    meter_arguments: MeterArguments
    create: CreateInstrument


OBSERVABLE_INSTRUMENTS: list[ObservableInstrument] = []
"""All instruments with callbacks that were created in this process; each Telemetry observes them all."""


class _DelegatingInstrument:
    """An instrument that records into the corresponding instrument of the current Telemetry."""

    def __init__(
        self, get_source: GetInstrumentSource, meter_arguments: MeterArguments, create: CreateInstrument
    ) -> None:
        self._get_source = get_source
        self._meter_arguments = meter_arguments
        self._create = create
        self._cache: tuple[InstrumentSource | None, int, Any] = (None, 0, None)

    def _resolve(self) -> Any:
        """The instrument of the current Telemetry, or None if there is none."""
        source = self._get_source()
        if source is None:
            return None
        cached_source, generation, instrument = self._cache
        if source is not cached_source or source.generation != generation:
            instrument = source.create_instrument(self._meter_arguments, self._create)
            self._cache = (source, source.generation, instrument)
        return instrument


class _Counter(_DelegatingInstrument, api.Counter):
    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Add an amount to the counter."""
        if (instrument := self._resolve()) is not None:
            instrument.add(amount, attributes, context)


class _UpDownCounter(_DelegatingInstrument, api.UpDownCounter):
    def add(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Add an amount to the counter."""
        if (instrument := self._resolve()) is not None:
            instrument.add(amount, attributes, context)


class _Histogram(_DelegatingInstrument, api.Histogram):
    def record(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Record a measurement."""
        if (instrument := self._resolve()) is not None:
            instrument.record(amount, attributes, context)


class _Gauge(_DelegatingInstrument, Gauge):
    def set(self, amount: float, attributes: Any = None, context: Any = None) -> None:
        """Set the value of the gauge."""
        if (instrument := self._resolve()) is not None:
            instrument.set(amount, attributes, context)


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
    """A meter whose instruments delegate to those of the current Telemetry."""

    def __init__(self, get_source: GetInstrumentSource, meter_arguments: MeterArguments) -> None:
        super().__init__(meter_arguments[0], meter_arguments[1], meter_arguments[2])
        self._get_source = get_source
        self._meter_arguments = meter_arguments

    def create_counter(self, name: str, unit: str = "", description: str = "") -> api.Counter:
        """Create a counter."""
        return _Counter(
            self._get_source, self._meter_arguments, lambda meter: meter.create_counter(name, unit, description)
        )

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> api.UpDownCounter:
        """Create an up-down counter."""
        return _UpDownCounter(
            self._get_source, self._meter_arguments, lambda meter: meter.create_up_down_counter(name, unit, description)
        )

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> api.Histogram:
        """Create a histogram."""

        def create(meter: api.Meter) -> api.Histogram:
            advisory = explicit_bucket_boundaries_advisory
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=advisory)

        return _Histogram(self._get_source, self._meter_arguments, create)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Gauge:
        """Create a synchronous gauge."""
        return _Gauge(
            self._get_source, self._meter_arguments, lambda meter: meter.create_gauge(name, unit, description)
        )

    def create_observable_counter(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> api.ObservableCounter:
        """Create a counter whose value is returned by callbacks."""
        self._add_observable(lambda meter: meter.create_observable_counter(name, callbacks, unit, description))
        return _ObservableCounter()

    def create_observable_up_down_counter(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> api.ObservableUpDownCounter:
        """Create an up-down counter whose value is returned by callbacks."""
        self._add_observable(lambda meter: meter.create_observable_up_down_counter(name, callbacks, unit, description))
        return _ObservableUpDownCounter()

    def create_observable_gauge(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> api.ObservableGauge:
        """Create a gauge whose value is returned by callbacks."""
        self._add_observable(lambda meter: meter.create_observable_gauge(name, callbacks, unit, description))
        return _ObservableGauge()

    def _add_observable(self, create: CreateInstrument) -> None:
        OBSERVABLE_INSTRUMENTS.append(ObservableInstrument(self._meter_arguments, create))


class DelegatingMeterProvider(api.MeterProvider):
    """The provider that `metrics.get_meter_provider()` returns; its meters delegate to the current Telemetry.

    Args:
        get_source: returns the instrument source of the current Telemetry, or None.
    """

    def __init__(self, get_source: GetInstrumentSource) -> None:
        self._get_source = get_source

    def get_meter(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> api.Meter:
        """A meter whose instruments resolve the Telemetry when they record."""
        return DelegatingMeter(self._get_source, (name, version, schema_url, attributes))

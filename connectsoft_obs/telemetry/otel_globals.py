"""The global OpenTelemetry providers: set by this package if they are unset; the first provider of a signal stays.

OpenTelemetry refuses a second provider. The tracer provider of the application is used if it was set first; its meter and
logger providers are independent of this package. A provider of the application that comes later is reported once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics, trace

from connectsoft_obs import context
from connectsoft_obs.context.otel_private import PROVIDER_LOGGERS, REFUSED_PROVIDER_TEXT
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.settings import valid_environment
from connectsoft_obs.signals.metrics import DelegatingMeterProvider, EarlyMeasurements, OtelMeterBridge
from connectsoft_obs.signals.tracing import (
    Provider,
    ProxyTracerProvider,
    add_export_processor,
    class_name,
    find_external_provider,
    set_current_provider_getter,
)
from connectsoft_obs.vocabulary import Signal

_lock = threading.Lock()
_early_measurements = EarlyMeasurements()
_early_measurements.start()


def install_otel_globals(
    get_provider: Callable[[], Provider | None],
    get_meters: Callable[[], OtelMeterBridge | None],
    get_internal_telemetry: Callable[[], InternalTelemetry | None],
) -> None:
    """Set the global OpenTelemetry providers and context. Idempotent."""
    with _lock, valid_environment():
        context.install_correlation_propagator()
        set_current_provider_getter(get_provider)
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(ProxyTracerProvider(get_provider))
        elif (external := find_external_provider()) is not None:
            add_export_processor(external)
        if type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider":
            metrics.set_meter_provider(DelegatingMeterProvider(get_meters))
        elif not isinstance(metrics.get_meter_provider(), DelegatingMeterProvider):
            _early_measurements.clear()
        _early_measurements.stop()
        for signal, logger_name in PROVIDER_LOGGERS.items():
            logger = logging.getLogger(logger_name)
            if not any(isinstance(log_filter, _RefusedProviderFilter) for log_filter in logger.filters):
                logger.addFilter(_RefusedProviderFilter(Signal(signal), get_internal_telemetry))


def replay_early_measurements(internal_telemetry: InternalTelemetry) -> None:
    """Record what the Meter API has measured before the first Telemetry of the process existed."""
    _early_measurements.replay(internal_telemetry)


def external_providers() -> dict[str, str]:
    """Class names of the tracer and meter providers that were set outside this package, by signal."""
    providers: dict[str, Any] = {}
    if (tracer_provider := find_external_provider()) is not None:
        providers[Signal.TRACES.value] = tracer_provider
    meter_provider = metrics.get_meter_provider()
    if (
        not isinstance(meter_provider, DelegatingMeterProvider)
        and type(meter_provider).__name__ != "_ProxyMeterProvider"
    ):
        providers[Signal.METRICS.value] = meter_provider
    return {signal: class_name(provider) for signal, provider in providers.items()}


class _RefusedProviderFilter(logging.Filter):
    """Log filter: replaces OpenTelemetry's record about a refused provider by a warning that says which provider is used."""

    def __init__(self, signal: Signal, get_internal_telemetry: Callable[[], InternalTelemetry | None]) -> None:
        super().__init__()
        self._signal = signal
        self._get_internal_telemetry = get_internal_telemetry

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a record about a refused provider, if the provider of this package is the current one."""
        is_traces = self._signal is Signal.TRACES
        current = trace.get_tracer_provider() if is_traces else metrics.get_meter_provider()
        internal_telemetry = self._get_internal_telemetry()
        if (
            REFUSED_PROVIDER_TEXT not in str(record.msg)
            or not isinstance(current, (ProxyTracerProvider, DelegatingMeterProvider))
            or internal_telemetry is None
        ):
            return True
        internal_telemetry.warn_once(
            ("otel.provider", self._signal.value),
            "an OpenTelemetry provider was set after that of connectsoft_obs, which stays in use; "
            "set it before connectsoft_obs is used first",
            {"signal": self._signal.value},
        )
        return False

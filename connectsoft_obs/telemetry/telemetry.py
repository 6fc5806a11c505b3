"""Telemetry: identity, settings, signals, health and exporters of one process, and their lifecycle."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from connectsoft_obs.context import Propagation
from connectsoft_obs.export import BatchProcessor
from connectsoft_obs.health import CheckRegistry, Health, current_registry
from connectsoft_obs.identity import ResourceIdentity, identify, is_local_terminal
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import export_switch
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import LogPipeline, StdoutWriter
from connectsoft_obs.signals.logs.levels import WARNING
from connectsoft_obs.signals.logs.runtime_levels import RuntimeLevels
from connectsoft_obs.signals.metrics import USER_METRICS, GcMetrics, MetricRegistry, OtelMeterBridge
from connectsoft_obs.signals.metrics.bridges import prometheus_client
from connectsoft_obs.signals.metrics.bridges.otel_sdk import warn_meter_api_not_aggregated
from connectsoft_obs.signals.tracing import SpanPipeline
from connectsoft_obs.telemetry.exporters import Exporters
from connectsoft_obs.telemetry.health_metrics_adapter import HealthMetricsAdapter
from connectsoft_obs.telemetry.start_log import log_start, warn_other_service
from connectsoft_obs.vocabulary import (
    BUILD_INFO,
    CHECK_STATUS,
    EXPORTER_STATUS,
    HEALTH_STATUS,
    SCOPE,
    SLO_EVENTS,
    Metric,
    Outcome,
    own_log_attribute,
)

if TYPE_CHECKING:
    from connectsoft_obs.slo.declared_slos import DeclaredSLOs
    from connectsoft_obs.slo.event_counter import BoundCounter, EventCounter

_SERIES_OF_SETTINGS = frozenset({BUILD_INFO.name, EXPORTER_STATUS.name, HEALTH_STATUS.name, CHECK_STATUS.name})
"""Metrics that describe one Telemetry, not what the application has done."""


class Telemetry:
    """Identity, signals, health and exporters of one process. `configure()` and the middleware create one.

    Thread-safe and fork-safe. No method raises at run time.

    Args:
        settings: the settings.
        environ: variables for platform detection; the environment of the process by default.
        exports: whether telemetry may be sent; True by default, False in a test run.
        output: writer of log lines; standard output by default.
        declared: health checks and startup tasks; those of the process by default.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        exports: bool | None = None,
        output: StdoutWriter | None = None,
        declared: CheckRegistry | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.settings = settings
        exports = export_switch.exports_allowed if exports is None else exports
        self.identity: ResourceIdentity = identify(
            settings, environ, at_local_terminal=exports and is_local_terminal(environ)
        )
        self.started: float = time.time()
        self.internal_telemetry: InternalTelemetry = InternalTelemetry()
        self.slos: DeclaredSLOs | None = _load_slos(settings)
        self.metrics: MetricRegistry = MetricRegistry(
            settings.cardinality_limit,
            extra_buckets={} if self.slos is None else self.slos.bucket_bounds,
            user_metrics=USER_METRICS,
            warn_once=self.internal_telemetry.warn_once,
        )
        self.slo_events: EventCounter | None = (
            None if self.slos is None else self.slos.create_event_counter(self.metrics.family(SLO_EVENTS).number_series)
        )
        if self.slos is not None and self.slo_events is not None:
            self.metrics.on_snapshot(
                self.slos.create_uncounted_warning(self.slo_events, self.internal_telemetry.warn_once)
            )
        self.meters: OtelMeterBridge = OtelMeterBridge(
            self._attributes,
            lambda error: self.internal_telemetry.record_error("metrics.meter", error),
            self.internal_telemetry,
            settings.exemplar_filter,
        )
        self._gc_metrics = GcMetrics(self.metrics)
        self.output: StdoutWriter = output or StdoutWriter(self.internal_telemetry)
        self.logs: LogPipeline = LogPipeline(
            settings, self.identity.attributes, self._counter, self.internal_telemetry, self.output
        )
        self.runtime_levels: RuntimeLevels | None = (
            RuntimeLevels(self.identity.service, self.logs.levels, settings.loggers_override_ttl, self._log_always)
            if settings.loggers_path
            else None
        )
        self.internal_telemetry.attach(self.metrics.add, lambda message, fields: self.log(WARNING, message, fields))
        self.tracing: SpanPipeline = SpanPipeline(settings, self._attributes, self.internal_telemetry)
        self.propagation: Propagation = Propagation(settings)
        self.health: Health = Health(
            settings,
            self.identity,
            declared or current_registry(),
            self.internal_telemetry,
            self.log,
            HealthMetricsAdapter(self.metrics),
            environ,
        )
        self.exporters: Exporters | None = (
            Exporters(
                settings,
                self._attributes,
                self.tracing,
                self.metrics,
                self.meters,
                self.logs,
                internal_telemetry=self.internal_telemetry,
                log=self.log,
            )
            if exports
            else None
        )
        if self.exporters is not None:
            self.metrics.join_parent(settings.metrics_multiprocess_dir)
        for status in [] if self.exporters is None else self.exporters.statuses:
            self.health.add_advisory(f"export-{status.destination.name}", status.problem)
        for signal, error in ({} if self.exporters is None else self.exporters.disabled).items():
            self.health.add_advisory(f"exporter-{signal.value}", partial(str, f"an exporter is off: {error}"))
        self.serving: bool = False
        self._successor: Telemetry | None = None
        self.instrumented: list[str] = []
        self.not_instrumented: dict[str, str] = {}
        self._serve_callbacks: list[Callable[[], None]] = []
        self._shutdown_callbacks: list[Callable[[], None]] = []
        self._set_build_info()
        register_fork_handler(self)

    def log(
        self,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Log a line of this package. If telemetry is disabled, only warnings and errors are logged."""
        if level >= WARNING or not self.settings.disabled:
            attributes = {own_log_attribute(key): value for key, value in fields.items()} if fields else None
            self.logs.emit(level, message, attributes, SCOPE, error)

    def slo_counter(self, metric: Metric, labels: Mapping[str, str], outcome: Outcome) -> BoundCounter | None:
        """Function to call with the duration of each event of one kind; None if no SLO counts it."""
        return None if self.slo_events is None else self.slo_events.bind(metric, labels, outcome)

    def _log_always(self, level: int, message: str, fields: dict[str, Any]) -> None:
        """Like `log`, but independent of log levels."""
        self.logs.write(Context(), level, message, fields, SCOPE, None)

    def serve(self) -> None:
        """Start what a serving process needs: shared metric files, the log writer thread and the exporters. Idempotent.

        In one of several workers, metrics are aggregated over all workers.
        """
        if not self.serving:
            self.serving = True
            if self.exporters is not None:  # a test run exports nothing and shares nothing with other workers
                self._join_workers()
            for callback in self._serve_callbacks:
                with self.internal_telemetry.guard("telemetry.serve"):
                    callback()
            self._gc_metrics.start()
            self.output.start()
            if self.runtime_levels is not None:
                self.runtime_levels.start()
            if self.exporters is not None:
                self.exporters.start()
                if not self.settings.disabled:
                    log_start(self.log, self.exporters, self.identity, self.instrumented, self.not_instrumented)
            if self.slos is not None:
                warn_other_service(self.log, self.slos.service, self.identity.service, self.settings.slo_file)

    def stop_serving(self, timeout: float | None = None) -> bool:
        """Stop serving: flush, and write log lines synchronously until `serve()` is called again."""
        seconds = self.settings.shutdown_timeout if timeout is None else timeout
        if self.runtime_levels is not None:
            self.runtime_levels.stop()
        sent = self.flush(seconds)
        if unsent := {processor.name: processor.pending for processor in self.export_processors() if processor.pending}:
            # The server can kill the process right after this, before a scrape could read a counter.
            self.log(WARNING, "stopping with unsent telemetry", {"waiting": unsent, "timeout": seconds})
        self.serving = False
        return self.logs.stop(min(seconds, 1.0)) and sent

    def flush(self, timeout: float = 5.0) -> bool:
        """Write and export everything that is queued, within `timeout` seconds; True if nothing is left."""
        if self._successor is not None:
            return self._successor.flush(timeout)
        written = self.logs.flush(timeout)
        return (True if self.exporters is None else self.exporters.flush(timeout)) and written

    def shutdown(self, timeout: float | None = None) -> bool:
        """Write and export remaining telemetry within `timeout` seconds (`shutdown_timeout` by default), then stop.

        Unsent telemetry is dropped and counted; returns True if there was none. Idempotent.
        """
        if self._successor is not None:
            return self._successor.shutdown(timeout)
        seconds = self.settings.shutdown_timeout if timeout is None else timeout
        self.health.stop("telemetry is shut down")
        self._gc_metrics.stop()
        deadline = time.monotonic() + seconds
        for callback in self._shutdown_callbacks:
            callback()
        sent = True if self.exporters is None else self.exporters.shutdown(max(deadline - time.monotonic(), 0))
        if self.runtime_levels is not None:
            self.runtime_levels.stop()
        self.serving = False
        self.metrics.leave_workers()
        return self.logs.stop(min(seconds, 1.0)) and sent

    def hand_over_to(self, successor: Telemetry) -> None:
        """Shut down; later calls of `flush` and `shutdown` are passed to the successor.

        If this Telemetry does not serve yet, the successor continues its series and its health, and queued telemetry is
        exported with the identity of the successor. Modules often record at import, before the settings are available.
        """
        if not self.serving and self.metrics.worker_group is None:
            self.identity = successor.identity
            with successor.internal_telemetry.guard("telemetry.replace"):
                successor.metrics.take_over(self.metrics, _SERIES_OF_SETTINGS)
                successor.health.take_over(self.health)
                if self.exporters is not None and successor.exporters is not None:
                    successor.exporters.take_over(self.exporters)
        self.shutdown(1.0)
        self._successor = successor

    def on_serve(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the process begins to serve; its exceptions are counted."""
        self._serve_callbacks.append(callback)

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call `callback` at the beginning of `shutdown()`; it must not raise."""
        self._shutdown_callbacks.append(callback)

    def export_processors(self) -> list[BatchProcessor[Any]]:
        """Batch processors of all signals and destinations."""
        return [] if self.exporters is None else list(self.exporters.processors)

    def _counter(self, metric: Metric, labels: tuple[str, ...]) -> Callable[[float], None]:
        return self.metrics.family(metric).number_series(*labels).add

    def _attributes(self) -> Mapping[str, Any]:
        return self.identity.attributes

    def _join_workers(self) -> None:
        if self.metrics.join_workers(self.identity.service, directory=self.settings.metrics_multiprocess_dir):
            if "prometheus_client" in sys.modules and not prometheus_client.is_multiprocess():
                families = prometheus_client.collect_families(lambda _: None)
                prometheus_client.warn_client_families_not_aggregated(self.internal_telemetry, families)
            if self.meters.has_instruments():
                warn_meter_api_not_aggregated(self.internal_telemetry)

    def _set_build_info(self) -> None:
        labels = tuple(str(self.identity.attributes.get(label, "")) for label in BUILD_INFO.labels)
        self.metrics.family(BUILD_INFO).number_series(*labels).set(1)

    def after_fork_in_child(self) -> None:
        """In a forked child: a new process that does not serve yet."""
        self.identity = self.identity.for_this_process()
        self._gc_metrics.stop()  # otherwise the next collection would record metrics in a child that records nothing else
        self.metrics.after_fork_in_child()
        self.meters.after_fork_in_child()
        self._shutdown_callbacks = []
        self.serving = False


def _load_slos(settings: Settings) -> DeclaredSLOs | None:
    """The SLOs that the settings declare. Imports nothing if there are none."""
    if not (source := settings.slo_file or settings.objectives):
        return None
    from connectsoft_obs.slo.declared_slos import load_declared_slos

    return load_declared_slos(source)

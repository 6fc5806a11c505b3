"""The one object: who we are, the signals, the health, and the beginning and end of all that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from connectsoft_obs.context import Propagation
from connectsoft_obs.export import BatchProcessor
from connectsoft_obs.health import CheckRegistry, Health
from connectsoft_obs.health import declared as declared_so_far
from connectsoft_obs.identity import ResourceIdentity, identify
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process import export_switch
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import LogPipeline, StdoutWriter
from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.signals.logs.runtime_levels import RuntimeLevels
from connectsoft_obs.signals.metrics import DEFINED, GcMetrics, MetricRegistry, OtelMeterBridge
from connectsoft_obs.signals.metrics.bridges.otel_sdk import warn_of_instruments
from connectsoft_obs.signals.metrics.bridges.prometheus_client import warn_of_plain_families
from connectsoft_obs.signals.tracing import Tracing
from connectsoft_obs.telemetry.exporters import Exporters
from connectsoft_obs.telemetry.health_metrics import HealthMetrics
from connectsoft_obs.vocabulary import BUILD_INFO, SCOPE, SLO_EVENTS, ExporterState, Metric, Outcome

if TYPE_CHECKING:
    from connectsoft_obs.slo import EventCounter
    from connectsoft_obs.slo.event_counter import BoundCounter


class Telemetry:
    """Everything one process reports, and with what. `configure()` and the middleware line make one.

    Methods may be called from any thread and after a fork; none raises at run time.

    Args:
        settings: how.
        environ: where the platform is told from; the process's environment by default.
        exports: whether anything may be sent; wherever the process is not a test run by default.
        output: where log lines go; standard output by default.
        declared: the health checks and tasks of start-up; those of the process by default.

    Raises:
        ConfigurationError: a setting that cannot work.
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
        self.identity: ResourceIdentity = identify(settings, environ)
        self.started: float = time.time()
        self.internal_telemetry: InternalTelemetry = InternalTelemetry()
        boundaries, objectives = _promises(settings)
        self.metrics: MetricRegistry = MetricRegistry(
            settings.cardinality_limit, thresholds=boundaries, defined=DEFINED, once=self.internal_telemetry.warn_once
        )
        self.slos: EventCounter | None = (
            None if objectives is None else objectives(self.metrics.family(SLO_EVENTS).number)
        )
        self.meters: OtelMeterBridge = OtelMeterBridge(
            self._attributes,
            lambda error: self.internal_telemetry.record_error("metrics.meter", error),
            self.internal_telemetry,
        )
        self._garbage = GcMetrics(self.metrics)
        self.output: StdoutWriter = output or StdoutWriter(self.internal_telemetry)
        self.logs: LogPipeline = LogPipeline(
            settings, self.identity.attributes, self._counter, self.internal_telemetry, self.output
        )
        self.overrides: RuntimeLevels | None = (
            RuntimeLevels(self.identity.service, self.logs.levels, settings.loggers_override_ttl, self._announce)
            if settings.loggers_path
            else None
        )
        self.internal_telemetry.attach(self.metrics.add, lambda message, facts: self.log(WARNING, message, facts))
        self.tracing: Tracing = Tracing(settings, self._attributes, self.internal_telemetry)
        self.propagation: Propagation = Propagation(settings)
        self.health: Health = Health(
            settings,
            self.identity,
            declared or declared_so_far(),
            self.internal_telemetry,
            self.log,
            HealthMetrics(self.metrics),
            environ,
        )
        self.exports: Exporters | None = (
            Exporters(
                settings,
                self._attributes,
                self.tracing,
                self.metrics,
                self.meters,
                self.logs,
                internal_telemetry=self.internal_telemetry,
                say=self.log,
            )
            if (export_switch.exports_allowed if exports is None else exports)
            else None
        )
        for line in self.pipelines():
            self.health.add_advisory(f"export-{line.name}", partial(_unreachable, line))
        self.serving: bool = False
        self._successor: Telemetry | None = None
        self.instrumented: list[str] = []
        self.not_instrumented: dict[str, str] = {}
        self._at_beginning: list[Callable[[], None]] = []
        self._at_end: list[Callable[[], None]] = []
        self._tell_build()
        register_fork_handler(self)

    def log(
        self,
        level: int,
        message: str,
        facts: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Write a line in our own name, with an exception where there is one; where disabled, only what is wrong."""
        if level >= WARNING or not self.settings.disabled:
            self.logs.emit(level, message, facts, SCOPE, error)

    def slo_counter(self, metric: Metric, labels: Mapping[str, str], outcome: Outcome) -> BoundCounter | None:
        """What to call with the duration of each event of one kind; None where no promise counts it."""
        return None if self.slos is None else self.slos.bind(metric, labels, outcome)

    def _announce(self, level: int, message: str, facts: dict[str, Any]) -> None:
        """As `say`, whatever the levels are: a change of levels that silences everything is told all the same."""
        self.logs.write(Context(), level, message, facts, SCOPE, None)

    def serve(self) -> None:
        """The process begins to serve: lines and metrics may use threads and files from here on.

        Where it is one of several workers, its metrics add up with theirs. Again changes nothing.
        """
        if not self.serving:
            self.serving = True
            if self.exports is not None:  # what exports nowhere, a test, shares nothing either
                self._share()
            for call in self._at_beginning:
                try:
                    call()
                except Exception as failure:  # noqa: BLE001  a part of ours that fails leaves the others whole
                    self.internal_telemetry.record_error("telemetry.serve", failure)
            self._garbage.start()
            self.output.start()
            if self.overrides is not None:
                self.overrides.start()
            if self.exports is not None:
                self.exports.start()
                self._tell_start(self.exports)

    def stop_serving(self, timeout: float | None = None) -> bool:
        """The process serves no more: `flush`, and from here on lines are written at once, until `serve()` again."""
        seconds = self.settings.shutdown_timeout if timeout is None else timeout
        sent = self.flush(seconds)
        if left := {line.name: line.waiting for line in self.pipelines() if line.waiting}:
            # The server may end the process by a signal right after this: nobody could ask for a counter then.
            self.log(WARNING, "stopping with telemetry that could not be sent", {"waiting": left, "timeout": seconds})
        self.serving = False
        return self.logs.stop(min(seconds, 1.0)) and sent

    def flush(self, timeout: float = 5.0) -> bool:
        """Write and send what waits, within `timeout` seconds; True when nothing waits any more."""
        if self._successor is not None:
            return self._successor.flush(timeout)
        written = self.logs.flush(timeout)
        return (True if self.exports is None else self.exports.flush(timeout)) and written

    def shutdown(self, timeout: float | None = None) -> bool:
        """Write and send what is left within `timeout` seconds (`shutdown_timeout` by default), then stop.

        What cannot be sent is counted and dropped. True when nothing was. Again changes nothing.
        """
        if self._successor is not None:
            return self._successor.shutdown(timeout)
        seconds = self.settings.shutdown_timeout if timeout is None else timeout
        self.health.stop("telemetry is shut down")
        self._garbage.stop()
        for close in self._at_end:
            close()
        sent = True if self.exports is None else self.exports.shutdown(seconds)
        if self.overrides is not None:
            self.overrides.stop()
        self.serving = False
        self.metrics.leave()
        return self.logs.stop(min(seconds, 1.0)) and sent

    def hand_over_to(self, successor: Telemetry) -> None:
        """Another one takes over; whoever holds this one flushes and shuts down that one from here on."""
        self.shutdown(1.0)
        self._successor = successor

    def on_serve(self, call: Callable[[], None]) -> None:
        """Have something called when the process begins to serve; what it raises is counted."""
        self._at_beginning.append(call)

    def on_shutdown(self, close: Callable[[], None]) -> None:
        """Have something called at the beginning of `shutdown()`; it must not raise."""
        self._at_end.append(close)

    def pipelines(self) -> list[BatchProcessor[Any]]:
        """The ways out that have a destination."""
        return [] if self.exports is None else list(self.exports.pipelines)

    def _counter(self, metric: Metric, labels: tuple[str, ...]) -> Callable[[float], None]:
        return self.metrics.family(metric).number(*labels).add

    def _attributes(self) -> Mapping[str, Any]:
        return self.identity.attributes

    def _tell_start(self, exports: Exporters) -> None:
        """One line: what is on, what is not, and where it goes."""
        facts = {"exports": exports.addresses, "instrumented": self.instrumented}
        self.log(INFO, "observability is on", facts)
        if exports.unsent:
            self.log(WARNING, exports.unsent)
        for name, problem in self.not_instrumented.items():
            self.log(WARNING, f"calls of {name} are not traced", {"reason": problem})

    def _share(self) -> None:
        if self.metrics.join_workers(self.identity.service, directory=self.settings.metrics_multiprocess_dir):
            warn_of_plain_families(self.internal_telemetry)
            if self.meters.used():
                warn_of_instruments(self.internal_telemetry)

    def _tell_build(self) -> None:
        attributes = self.identity.attributes
        labels = tuple(str(attributes.get(label, "")) for label in BUILD_INFO.labels)
        self.metrics.family(BUILD_INFO).number(*labels).set(1)

    def after_fork_in_child(self) -> None:
        """In a forked child: a process of its own, that does not serve yet."""
        self.identity = self.identity.for_this_process()
        self._garbage.stop()  # its next collection would make a child that records nothing record something
        self.metrics.after_fork_in_child()
        self.meters.after_fork_in_child()
        self._at_end = []
        self.serving = False


def _promises(settings: Settings) -> tuple[Mapping[str, tuple[float, ...]], Callable[[Any], EventCounter] | None]:
    """Bucket boundaries that promises need, and what makes their counters; a service without any loads nothing."""
    source = settings.slo_file or settings.objectives
    if not source:
        return {}, None
    from connectsoft_obs.slo import EventCounter, load_any, required_buckets

    slos = load_any(source, "this-service").slos
    return required_buckets(slos), partial(EventCounter, slos)


def _unreachable(line: BatchProcessor[Any]) -> str:
    return "" if line.state is ExporterState.CLOSED else "what is sent does not arrive"

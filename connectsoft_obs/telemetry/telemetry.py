"""The one object: who we are, the signals, the health, and the beginning and end of all that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from connectsoft_obs import network
from connectsoft_obs.context import Propagation
from connectsoft_obs.export import Pipeline
from connectsoft_obs.forks import renew
from connectsoft_obs.health import Declared, Health
from connectsoft_obs.health import declared as declared_so_far
from connectsoft_obs.identity import Identity, identify
from connectsoft_obs.ledger import Ledger
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import LogStream, Output
from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.signals.logs.overrides import Overrides
from connectsoft_obs.signals.metrics import DEFINED, Garbage, Meters, Metrics
from connectsoft_obs.signals.metrics.foreign.client import warn_of_plain_families
from connectsoft_obs.signals.metrics.foreign.sdk import warn_of_instruments
from connectsoft_obs.signals.tracing import Tracing
from connectsoft_obs.telemetry.exports import Exports
from connectsoft_obs.telemetry.numbers import Numbers
from connectsoft_obs.vocabulary import BUILD_INFO, SCOPE, SLO_EVENTS, ExporterState, Metric, Outcome

if TYPE_CHECKING:
    from connectsoft_obs.slo import Objectives
    from connectsoft_obs.slo.events import Count


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
        output: Output | None = None,
        declared: Declared | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.settings = settings
        self.identity: Identity = identify(settings, environ)
        self.started: float = time.time()
        self.ledger: Ledger = Ledger()
        boundaries, objectives = _promises(settings)
        self.metrics: Metrics = Metrics(
            settings.series_limit, thresholds=boundaries, defined=DEFINED, once=self.ledger.once
        )
        self.slos: Objectives | None = (
            None if objectives is None else objectives(self.metrics.family(SLO_EVENTS).number)
        )
        self.meters: Meters = Meters(
            self._attributes, lambda error: self.ledger.error("metrics.meter", error), self.ledger
        )
        self._garbage = Garbage(self.metrics)
        self.output: Output = output or Output(self.ledger)
        self.logs: LogStream = LogStream(settings, self.identity.attributes, self._counter, self.ledger, self.output)
        self.overrides: Overrides | None = (
            Overrides(self.identity.service, self.logs.levels, settings.loggers_timeout, self._announce)
            if settings.loggers_path
            else None
        )
        self.ledger.attach(self.metrics.add, lambda message, facts: self.say(WARNING, message, facts))
        self.tracing: Tracing = Tracing(settings, self._attributes, self.ledger)
        self.propagation: Propagation = Propagation(settings)
        self.health: Health = Health(
            settings,
            self.identity,
            declared or declared_so_far(),
            self.ledger,
            self.say,
            Numbers(self.metrics),
            environ,
        )
        self.exports: Exports | None = (
            Exports(
                settings,
                self._attributes,
                self.tracing,
                self.metrics,
                self.meters,
                self.logs,
                ledger=self.ledger,
                say=self.say,
            )
            if (network.allowed if exports is None else exports)
            else None
        )
        for line in self.pipelines():
            self.health.advise(f"export-{line.name}", partial(_unreachable, line))
        self.serving: bool = False
        self._successor: Telemetry | None = None
        self.instrumented: list[str] = []
        self.not_instrumented: dict[str, str] = {}
        self._at_beginning: list[Callable[[], None]] = []
        self._at_end: list[Callable[[], None]] = []
        self._tell_build()
        renew(self)

    def say(
        self,
        level: int,
        message: str,
        facts: Mapping[str, Any] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Write a line in our own name, with an exception where there is one; where disabled, only what is wrong."""
        if level >= WARNING or not self.settings.disabled:
            self.logs.emit(level, message, facts, SCOPE, error)

    def promised(self, metric: Metric, labels: Mapping[str, str], outcome: Outcome) -> Count | None:
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
                    self.ledger.error("telemetry.serve", failure)
            self._garbage.start()
            self.output.start()
            if self.overrides is not None:
                self.overrides.start()
            if self.exports is not None:
                self.exports.start()
                self._tell_start(self.exports)

    def rest(self, timeout: float | None = None) -> bool:
        """The process serves no more: `flush`, and from here on lines are written at once, until `serve()` again."""
        seconds = self.settings.shutdown_timeout if timeout is None else timeout
        sent = self.flush(seconds)
        if left := {line.name: line.waiting for line in self.pipelines() if line.waiting}:
            # The server may end the process by a signal right after this: nobody could ask for a counter then.
            self.say(WARNING, "stopping with telemetry that could not be sent", {"waiting": left, "timeout": seconds})
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

    def replaced_by(self, successor: Telemetry) -> None:
        """Another one takes over; whoever holds this one flushes and shuts down that one from here on."""
        self.shutdown(1.0)
        self._successor = successor

    def at_beginning(self, call: Callable[[], None]) -> None:
        """Have something called when the process begins to serve; what it raises is counted."""
        self._at_beginning.append(call)

    def at_end(self, close: Callable[[], None]) -> None:
        """Have something called at the beginning of `shutdown()`; it must not raise."""
        self._at_end.append(close)

    def pipelines(self) -> list[Pipeline[Any]]:
        """The ways out that have a destination."""
        return [] if self.exports is None else list(self.exports.pipelines)

    def _counter(self, metric: Metric, labels: tuple[str, ...]) -> Callable[[float], None]:
        return self.metrics.family(metric).number(*labels).add

    def _attributes(self) -> Mapping[str, Any]:
        return self.identity.attributes

    def _tell_start(self, exports: Exports) -> None:
        """One line: what is on, what is not, and where it goes."""
        facts = {"exports": exports.addresses, "instrumented": self.instrumented}
        self.say(INFO, "observability is on", facts)
        if exports.unsent:
            self.say(WARNING, exports.unsent)
        for name, problem in self.not_instrumented.items():
            self.say(WARNING, f"calls of {name} are not traced", {"reason": problem})

    def _share(self) -> None:
        if self.metrics.share(self.identity.service, directory=self.settings.metrics_dir):
            warn_of_plain_families(self.ledger)
            if self.meters.used():
                warn_of_instruments(self.ledger)

    def _tell_build(self) -> None:
        attributes = self.identity.attributes
        labels = tuple(str(attributes.get(label, "")) for label in BUILD_INFO.labels)
        self.metrics.family(BUILD_INFO).number(*labels).set(1)

    def forked(self) -> None:
        """In a forked child: a process of its own, that does not serve yet."""
        self.identity = self.identity.for_this_process()
        self._garbage.stop()  # its next collection would make a child that records nothing record something
        self.metrics.forked()
        self.meters.forked()
        self._at_end = []
        self.serving = False


def _promises(settings: Settings) -> tuple[Mapping[str, tuple[float, ...]], Callable[[Any], Objectives] | None]:
    """Bucket boundaries that promises need, and what makes their counters; a service without any loads nothing."""
    if not settings.slos:
        return {}, None
    from connectsoft_obs.slo import Objectives, promised, thresholds

    slos = promised(settings.slos, "this-service").slos
    return thresholds(slos), partial(Objectives, slos)


def _unreachable(line: Pipeline[Any]) -> str:
    return "" if line.state is ExporterState.CLOSED else "what is sent does not arrive"

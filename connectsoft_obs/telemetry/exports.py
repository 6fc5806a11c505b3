"""The ways out of one Telemetry: a pipeline for each signal that has a destination."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectsoft_obs import __version__
from connectsoft_obs.export import Destination, Pipeline, destination, envelope, transport
from connectsoft_obs.ledger import Ledger
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import LogStream
from connectsoft_obs.signals.logs import encode as logs_encode
from connectsoft_obs.signals.metrics import Meters, Metrics, Pauses, Snapshot, processes
from connectsoft_obs.signals.metrics import encode as metrics_encode
from connectsoft_obs.signals.metrics.foreign import client, twins
from connectsoft_obs.signals.tracing import Tracing
from connectsoft_obs.vocabulary import (
    EXPORT_DURATION,
    EXPORTER_STATUS,
    SCHEMA_URL,
    SCOPE,
    ExporterState,
    Signal,
)

Say = Callable[[int, str, dict[str, Any]], None]
_STATES = list(ExporterState)


class Exports:
    """Sends what has a destination; without one it does nothing and starts no thread.

    Raises:
        ConfigurationError: an address that cannot be one.
    """

    def __init__(
        self,
        settings: Settings,
        attributes: Callable[[], Mapping[str, Any]],
        tracing: Tracing,
        metrics: Metrics,
        meters: Meters,
        stream: LogStream,
        *,
        ledger: Ledger,
        say: Say,
    ) -> None:
        self._settings = settings
        self._attributes = attributes
        self._metrics = metrics
        self._meters = meters
        self._ledger = ledger
        self._say = say
        self.pipelines: dict[Signal, Pipeline[Any]] = {}
        self.addresses: dict[Signal, str] = {}
        if (to := destination(settings, Signal.TRACES)) is not None:
            spans = self._pipeline(
                to,
                tracing.pack,
                lambda item: len(item[1]),
                settings.span_queue,
                settings.span_batch,
                settings.span_delay,
            )
            tracing.export_to(spans.put)
        if "console" in (settings.traces_exporter or ()) and not settings.disabled:
            _look_at(tracing)
        if (to := destination(settings, Signal.METRICS)) is not None:
            self._pipeline(to, lambda items: items[0], len, 1, 1, settings.metric_interval, self._collected)

        if (to := destination(settings, Signal.LOGS)) is not None:
            lines = self._pipeline(
                to,
                lambda items: logs_encode.pack(items, self._attributes()),
                lambda item: len(item[1]),
                settings.log_queue,
                settings.log_batch,
                settings.log_delay,
            )
            stream.export_to(logs_encode.exporter(lines.put))

    def start(self) -> None:
        """The process serves: begin to send metrics at their interval."""
        if (metrics := self.pipelines.get(Signal.METRICS)) is not None:
            metrics.start()

    def flush(self, timeout: float) -> bool:
        """Send what waits within `timeout` seconds; True when everything was sent."""
        deadline = time.monotonic() + timeout
        return all([line.flush(max(deadline - time.monotonic(), 0)) for line in self.pipelines.values()])

    def shutdown(self, timeout: float) -> bool:
        """Send what is left, all signals at once, and stop."""
        for line in self.pipelines.values():
            line.stop(timeout)
        return all([line.stopped() for line in self.pipelines.values()])

    def _pipeline(
        self,
        to: Destination,
        pack: Callable[[Sequence[Any]], bytes],
        size: Callable[[Any], int],
        limit: int,
        batch: int,
        delay: float,
        refill: Callable[[], Sequence[Any]] | None = None,
    ) -> Pipeline[Any]:
        made: Pipeline[Any] = Pipeline(
            to.signal,
            lambda: transport(to),
            pack,
            size,
            self._ledger,
            limit=limit,
            batch=batch,
            delay=delay,
            timeout=to.timeout,
            observe=self._observe,
            changed=lambda signal, state, reason: self._changed(to, state, reason),
            refill=refill,
        )
        self.pipelines[to.signal] = made
        self.addresses[to.signal] = to.address
        self._metrics.family(EXPORTER_STATUS).number(to.signal.value).set(_STATES.index(ExporterState.CLOSED))
        return made

    def _collected(self) -> list[bytes]:
        """What the metrics of this process are now, as requests that no collector finds too large."""
        pause = Pauses()
        ours = self._metrics.snapshots(pause)
        taken = twins.taken_by(ours)
        found = client.families(lambda error: self._ledger.error("metrics.collector", error))
        theirs = self._meters.twins.free(found, taken, twins.of_client, client.SCOPE)
        return [
            *self._requests(SCOPE, __version__, [*ours, *processes.threads()]),
            *self._requests(client.SCOPE, "", client.snapshots(theirs)),
            *self._meters.requests(taken),
        ]

    def _requests(self, scope: str, version: str, snapshots: Sequence[Snapshot]) -> list[bytes]:
        metrics = self._metrics
        encoded = metrics_encode.metrics(snapshots, metrics.started_ns, time.time_ns(), Pauses())
        schema = SCHEMA_URL if version else None
        return [
            envelope.request(self._attributes(), SCHEMA_URL, envelope.scope(scope, version, schema, part))
            for part in metrics_encode.parts(encoded)
        ]

    def _observe(self, signal: Signal, outcome: str, seconds: float) -> None:
        self._metrics.family(EXPORT_DURATION).histogram(signal.value, outcome).observe(seconds)

    def _changed(self, to: Destination, state: ExporterState, reason: str) -> None:
        self._metrics.family(EXPORTER_STATUS).number(to.signal.value).set(_STATES.index(state))
        facts = {"signal": to.signal.value, "endpoint": to.address, "reason": reason}
        if state is ExporterState.OPEN:
            self._say(30, "export fails; telemetry is kept and tried again, the application is not affected", facts)
        else:
            self._say(20, "export works again", facts)


def _look_at(tracing: Tracing) -> None:
    """Print each span when it ends, with the SDK's own printer."""
    import sys

    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    tracing.provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))

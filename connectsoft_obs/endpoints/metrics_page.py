"""The metrics page: our families, those of prometheus_client's default registry and of the Meter API, `target_info`.

In a service of several workers any of them answers for all. It takes a while with many series, so it is asked for in a
thread, and rests often enough that the event loop does not notice.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from connectsoft_obs.endpoints.messages import EndpointRequest, EndpointResponse
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.signals.metrics import CooperativePause, exposition, process_metrics
from connectsoft_obs.signals.metrics.bridges import name_conflicts, prometheus_client
from connectsoft_obs.signals.metrics.bridges.otel_sdk import warn_of_instruments
from connectsoft_obs.signals.metrics.exposition import Exposition
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import SERVICE_INSTANCE_ID

if TYPE_CHECKING:
    from prometheus_client import Metric as ClientMetric

_OF_ONE_PROCESS = frozenset({SERVICE_INSTANCE_ID, "process.pid"})
_SMALL = 1024


class MetricsPage:
    """Writes the page of one Telemetry. Thread-safe; one scrape at a time, others wait."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """At first, and in a forked child, where whoever was writing a page is not."""
        self._writing = threading.Lock()
        self._expositions = {openmetrics: Exposition(openmetrics) for openmetrics in (False, True)}

    def page(self, asked: EndpointRequest) -> EndpointResponse:
        """What a scraper is told: text or OpenMetrics as it accepts, `name[]=` as it asks, compressed if it likes."""
        accept = asked.headers.get(b"accept", b"").decode("latin-1")
        openmetrics = prefers_openmetrics(accept)
        names = {value for key, value in parse_qsl(asked.query.decode("latin-1")) if key == "name[]"}
        with self._writing:
            parts = self._parts(openmetrics)
        if names:
            parts = [exposition.restricted(part, names) for part in parts]
        body = "".join([*parts, "# EOF\n" if openmetrics else ""]).encode("utf-8", "replace")
        kind = exposition.OPENMETRICS if openmetrics else exposition.TEXT
        headers: tuple[tuple[bytes, bytes], ...] = ((b"vary", b"accept, accept-encoding"),)
        if len(body) > _SMALL and accepts_gzip(asked.headers.get(b"accept-encoding", b"").decode("latin-1")):
            # Level 1: half the time of the default for a page a tenth larger; zlib lets go of the GIL.
            return EndpointResponse(200, kind, gzip.compress(body, 1), (*headers, (b"content-encoding", b"gzip")))
        return EndpointResponse(200, kind, body, headers)

    def _parts(self, openmetrics: bool) -> list[str]:
        telemetry, pause = self._telemetry, CooperativePause()
        workers = telemetry.metrics.workers
        ours = telemetry.metrics.collect_all_workers(pause, exemplars=openmetrics)
        ours += (
            process_metrics.threads()
            if workers is None
            else process_metrics.sum_over_processes(workers.supervisor, workers.pids())
        )
        taken, alone = name_conflicts.taken_by(ours), telemetry.meters.twins
        theirs = alone.page(telemetry.meters.snapshots(taken), taken, name_conflicts.of_snapshot, "the Meter API")
        if theirs and workers is not None:
            warn_of_instruments(telemetry.internal_telemetry)
        found = prometheus_client.families(self._failed, page=True, shared=workers is not None)
        clients = alone.page(found, taken, name_conflicts.of_client, prometheus_client.SCOPE)
        attributes = telemetry.identity.attributes
        # The workers are one target; what differs from one to the next would make it another target at each scrape.
        target = {
            name: str(value) for name, value in attributes.items() if workers is None or name not in _OF_ONE_PROCESS
        }
        return [
            exposition.info("target", "Target metadata", target, openmetrics),
            *self._expositions[openmetrics].families(ours, pause),
            *Exposition(openmetrics).families(theirs, pause),
            *_written(clients, openmetrics, pause),
        ]

    def _failed(self, error: Exception) -> None:
        self._telemetry.internal_telemetry.record_error("metrics.collector", error)


def _written(families: Iterable[ClientMetric], openmetrics: bool, pause: CooperativePause) -> list[str]:
    """Families as prometheus_client writes them, one by one, so that there is room for a rest in between."""
    from prometheus_client import exposition as client_text
    from prometheus_client.openmetrics import exposition as client_openmetrics

    write: Any = client_openmetrics.generate_latest if openmetrics else client_text.generate_latest
    found = []
    for family in families:
        pause()
        found.append(write(_Alone(family)).decode().removesuffix("# EOF\n"))
    return found


class _Alone:
    """A registry of one family."""

    def __init__(self, family: ClientMetric) -> None:
        self._family = family

    def collect(self) -> Iterable[ClientMetric]:
        """The family."""
        return (self._family,)


def prefers_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is accepted, and no less than text; HTTP's rules for Accept."""
    weights = _weights(accept)
    wanted = weights.get("application/openmetrics-text", 0.0)
    return wanted > 0 and wanted >= weights.get("text/plain", 0.0)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a body may be compressed with gzip."""
    weights = _weights(accept_encoding)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weights(header: str) -> dict[str, float]:
    """Weight of each value of an Accept or Accept-Encoding header; of one that appears twice the higher one."""
    found: dict[str, float] = {}
    for item in header[:2000].split(","):
        value, *parameters = [part.strip().lower() for part in item.split(";")]
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        found[value] = max(weight, found.get(value, 0.0))
    return found

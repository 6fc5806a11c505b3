"""The metrics page: own metrics, `target_info`, and the metrics of prometheus_client and of the OpenTelemetry Meter API.

In a service with several workers, any of them responds for all; metrics that cannot be aggregated over workers are left
out. Rendering takes long if there are many series. Therefore it runs in a thread, with pauses that keep the event loop
responsive.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from connectsoft_obs.endpoints.request_response import EndpointRequest, EndpointResponse
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.signals.metrics import CooperativePause, Snapshot, exposition, process_metrics
from connectsoft_obs.signals.metrics.bridges import name_conflicts, prometheus_client
from connectsoft_obs.signals.metrics.bridges.otel_sdk import warn_meter_api_not_aggregated
from connectsoft_obs.signals.metrics.bridges.prometheus_client import warn_client_families_not_aggregated
from connectsoft_obs.signals.metrics.exposition import Exposition
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import PLATFORM_INFO, SERVICE_INSTANCE_ID

if TYPE_CHECKING:
    from prometheus_client import Metric as ClientMetric

_PROCESS_ATTRIBUTES = frozenset({SERVICE_INSTANCE_ID, "process.pid"})
"""Resource attributes that differ between the workers of a service."""

_MIN_GZIP_SIZE = 1024
_MAX_ACCEPT_LENGTH = 2000


class MetricsPage:
    """The metrics page of one Telemetry. Thread-safe; concurrent scrapes wait for each other."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """Create lock and caches. In a forked child the thread that held the lock does not exist."""
        self._lock = threading.Lock()
        self._expositions = {openmetrics: Exposition(openmetrics) for openmetrics in (False, True)}

    def page(self, request: EndpointRequest) -> EndpointResponse:
        """Return the page as text or OpenMetrics, whichever the request accepts, compressed with gzip if it accepts that.

        `?name[]=` restricts the page to the named metrics.
        """
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        openmetrics = prefers_openmetrics(accept)
        names = {value for key, value in parse_qsl(request.query.decode("latin-1")) if key == "name[]"}
        with self._lock:
            parts = self._render(openmetrics)
        if names:
            parts = [exposition.filter_samples(part, names) for part in parts]
        body = "".join([*parts, "# EOF\n" if openmetrics else ""]).encode("utf-8", "replace")
        content_type = exposition.OPENMETRICS_CONTENT_TYPE if openmetrics else exposition.TEXT_CONTENT_TYPE
        headers: tuple[tuple[bytes, bytes], ...] = ((b"vary", b"accept, accept-encoding"),)
        if len(body) > _MIN_GZIP_SIZE and accepts_gzip(request.headers.get(b"accept-encoding", b"").decode("latin-1")):
            # Level 1: half the time of the default for a page a tenth larger; zlib releases the GIL.
            return EndpointResponse(
                200, content_type, gzip.compress(body, 1), (*headers, (b"content-encoding", b"gzip"))
            )
        return EndpointResponse(200, content_type, body, headers)

    def _render(self, openmetrics: bool) -> list[str]:
        telemetry, pause = self._telemetry, CooperativePause()
        workers = telemetry.metrics.worker_group
        own_families = telemetry.metrics.collect_all_workers(pause, exemplars=openmetrics)
        own_families += (
            process_metrics.own_process_snapshots()
            if workers is None
            else process_metrics.service_snapshots(workers.supervisor_pid, workers.pids())
        )
        used_names, conflicts = name_conflicts.names_in_use(own_families), telemetry.meters.name_conflicts
        otel_snapshots: list[Snapshot] = []
        if workers is None:
            otel_snapshots = telemetry.meters.snapshots(used_names)
        elif telemetry.meters.has_instruments():  # each worker has its own values, which would look like counter resets
            warn_meter_api_not_aggregated(telemetry.internal_telemetry)
        otel_families = conflicts.filter_unique(
            otel_snapshots, used_names, name_conflicts.snapshot_names, "the Meter API"
        )
        client_families = prometheus_client.collect_families(self._record_collector_error, aggregate=True)
        if workers is not None and not prometheus_client.is_multiprocess():
            warn_client_families_not_aggregated(telemetry.internal_telemetry, client_families)
            client_families = [family for family in client_families if family.name == PLATFORM_INFO]
        client = conflicts.filter_unique(
            client_families, used_names, name_conflicts.client_family_names, prometheus_client.SCOPE_NAME
        )
        attributes = telemetry.identity.attributes
        # The workers are one target. Attributes that differ between them would make it another target at each scrape.
        target = {
            name: str(value) for name, value in attributes.items() if workers is None or name not in _PROCESS_ATTRIBUTES
        }
        return [
            exposition.format_info("target", "Target metadata", target, openmetrics),
            *self._expositions[openmetrics].format_families(own_families, pause),
            *Exposition(openmetrics).format_families(otel_families, pause),
            *_render_client_families(client, openmetrics, pause),
        ]

    def _record_collector_error(self, error: Exception) -> None:
        self._telemetry.internal_telemetry.record_error("metrics.collector", error)


def _render_client_families(families: Iterable[ClientMetric], openmetrics: bool, pause: CooperativePause) -> list[str]:
    """Render families with prometheus_client, one by one, with pauses in between."""
    from prometheus_client import exposition as client_text
    from prometheus_client.openmetrics import exposition as client_openmetrics

    write: Any = client_openmetrics.generate_latest if openmetrics else client_text.generate_latest
    texts = []
    for family in families:
        pause()
        texts.append(write(_SingleFamilyRegistry(family)).decode().removesuffix("# EOF\n"))
    return texts


class _SingleFamilyRegistry:
    """A registry with one metric family."""

    def __init__(self, family: ClientMetric) -> None:
        self._family = family

    def collect(self) -> Iterable[ClientMetric]:
        """Return the family."""
        return (self._family,)


def prefers_openmetrics(accept: str) -> bool:
    """Return whether an Accept header accepts OpenMetrics, with at least the weight of plain text."""
    weights = _parse_weights(accept)
    weight = weights.get("application/openmetrics-text", 0.0)
    return weight > 0 and weight >= weights.get("text/plain", 0.0)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header accepts gzip."""
    weights = _parse_weights(accept_encoding)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _parse_weights(header: str) -> dict[str, float]:
    """Return the weight of each value of an Accept or Accept-Encoding header, the higher one of a repeated value."""
    weights: dict[str, float] = {}
    for item in header[:_MAX_ACCEPT_LENGTH].split(","):
        value, *parameters = [part.strip().lower() for part in item.split(";")]
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weights[value] = max(weight, weights.get(value, 0.0))
    return weights

"""Serves the gRPC health protocol (grpc.health.v1.Health) from the same state as the HTTP endpoints.

    add_health(server)          # a grpc.Server or grpc.aio.Server, before it starts

`""` and every name in `services` report readiness. `liveness`, `readiness` and `startup` report that probe, for the
field `service:` of a Kubernetes gRPC probe. Needs `connectsoft-obs[grpc]`.

It implements the servicer interface of `grpcio-health-checking`. The servicer of that package with the same name stores
statuses that the application sets; this one reads the current report of a probe for each request.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

try:
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthServicer, add_HealthServicer_to_server
except ModuleNotFoundError as _error:
    _message = f"connectsoft_obs.integrations.grpc_health needs {_error.name}: pip install 'connectsoft-obs[grpc]'"
    raise ModuleNotFoundError(_message, name=_error.name) from None

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health import Health, Probe
from connectsoft_obs.telemetry import Telemetry, resolve

POLL_INTERVAL = 0.5
"""Seconds between two evaluations of a watched status."""

_MAX_NAME = 200


def add_health(server: Any, *, services: Iterable[str] = (), telemetry: Telemetry | None = None) -> None:
    """Add the health service to a sync or asyncio gRPC server.

    Starts the health checks, unless they run already. Call it on the event loop of an asyncio server.

    Args:
        server: the server, not yet started.
        services: full names of services that are ready when the process is ready (`shop.Orders`).
        telemetry: the Telemetry to use; that of the process by default.

    Raises:
        ConfigurationError: it is not a gRPC server.
    """
    if not hasattr(server, "add_generic_rpc_handlers"):
        raise ConfigurationError(
            f"add_health({server!r})",
            "it is not a gRPC server",
            "Pass the result of grpc.server() or grpc.aio.server().",
        )
    telemetry = telemetry or resolve()
    telemetry.serve()
    telemetry.health.start()
    servicer_type = _AsyncServicer if isinstance(server, grpc.aio.Server) else _SyncServicer
    add_HealthServicer_to_server(servicer_type(telemetry.health, services), server)


class _Servicer(HealthServicer):  # type: ignore[misc]
    """Maps service names to probes."""

    def __init__(self, health: Health, services: Iterable[str]) -> None:
        self._health = health
        self._probes = {probe.value: probe for probe in Probe} | dict.fromkeys(["", *services], Probe.READINESS)

    def _status(self, service: str) -> int:
        probe = self._probes.get(service)
        if probe is None:
            return int(HealthCheckResponse.SERVICE_UNKNOWN)
        passes = self._health.report(probe).passes
        return int(HealthCheckResponse.SERVING if passes else HealthCheckResponse.NOT_SERVING)


class _SyncServicer(_Servicer):
    """For `grpc.Server`. A watching client occupies one thread of the server's pool."""

    def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        status = self._status(request.service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, _unknown_service(request.service))
        return HealthCheckResponse(status=status)

    def Watch(self, request: HealthCheckRequest, context: Any) -> Iterator[HealthCheckResponse]:
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        if not context.add_callback(lambda: ended.put(None)):
            return
        last_status = None
        while context.is_active():
            if (status := self._status(request.service)) != last_status:
                last_status = status
                yield HealthCheckResponse(status=status)
            try:
                ended.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                continue
            return


class _AsyncServicer(_Servicer):
    """For `grpc.aio.Server`."""

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        status = self._status(request.service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, _unknown_service(request.service))
        return HealthCheckResponse(status=status)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> AsyncIterator[HealthCheckResponse]:
        last_status = None
        while True:  # the server cancels this coroutine when the client leaves
            if (status := self._status(request.service)) != last_status:
                last_status = status
                yield HealthCheckResponse(status=status)
            await asyncio.sleep(POLL_INTERVAL)


def _unknown_service(service: str) -> str:
    return f"unknown service {service[:_MAX_NAME]!r}"

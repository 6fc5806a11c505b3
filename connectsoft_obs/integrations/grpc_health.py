"""The gRPC health protocol (grpc.health.v1.Health), answered from the same state as the HTTP endpoints.

    add_health(server)          # a grpc.Server or grpc.aio.Server, before it starts

`""` and every service name given are readiness; `liveness`, `readiness` and `startup` are those probes, for the
`service:` field of a Kubernetes gRPC probe. Needs `grpcio`; its two messages of one field each are written by hand.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterable, Iterator
from enum import IntEnum
from typing import Any

import grpc

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health import Health, Probe
from connectsoft_obs.telemetry import Telemetry, resolve

SERVICE = "grpc.health.v1.Health"
POLL_INTERVAL = 0.5
"""Seconds between two looks of a `Watch` at what it watches."""


class ServingStatus(IntEnum):
    """HealthCheckResponse.ServingStatus."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def add_health(server: Any, *, services: Iterable[str] = (), telemetry: Telemetry | None = None) -> None:
    """Answer health questions on a gRPC server, sync or asyncio.

    Runs the checks from here on if nothing does yet; on an asyncio server, call it on its event loop.

    Args:
        server: the server, not yet started.
        services: full names of services that are ready when the process is (`shop.Orders`).
        telemetry: the Telemetry to use instead of the process's own.

    Raises:
        ConfigurationError: not a gRPC server.
    """
    if not hasattr(server, "add_generic_rpc_handlers"):
        raise ConfigurationError(f"add_health({server!r})", "it is not a gRPC server", "Pass what grpc.server() gave.")
    given = telemetry or resolve()
    given.serve()
    given.health.start()
    state = _State(given.health, services)
    asynchronous = isinstance(server, grpc.aio.Server)
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(
            state.check_async if asynchronous else state.check, _request, _response
        ),
        "Watch": grpc.unary_stream_rpc_method_handler(
            state.watch_async if asynchronous else state.watch, _request, _response
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class _State:
    """The status of each service name."""

    def __init__(self, health: Health, services: Iterable[str]) -> None:
        self._health = health
        self._probes = {probe.value: probe for probe in Probe} | dict.fromkeys(["", *services], Probe.READINESS)

    def of(self, service: str) -> ServingStatus:
        probe = self._probes.get(service)
        if probe is None:
            return ServingStatus.SERVICE_UNKNOWN
        return ServingStatus.SERVING if self._health.report(probe).passes else ServingStatus.NOT_SERVING

    def check(self, service: str, context: Any) -> ServingStatus:
        status = self.of(service)
        if status is ServingStatus.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {service[:200]!r}")
        return status

    async def check_async(self, service: str, context: Any) -> ServingStatus:
        status = self.of(service)
        if status is ServingStatus.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {service[:200]!r}")
        return status

    def watch(self, service: str, context: Any) -> Iterator[ServingStatus]:
        ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        if not context.add_callback(lambda: ended.put(None)):
            return
        told = None
        while context.is_active():
            if (status := self.of(service)) is not told:
                told = status
                yield status
            try:
                ended.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                continue
            return

    async def watch_async(self, service: str, _: Any) -> AsyncIterator[ServingStatus]:
        told = None
        while True:  # the server cancels it when the client leaves
            if (status := self.of(service)) is not told:
                told = status
                yield status
            await asyncio.sleep(POLL_INTERVAL)


def _response(status: ServingStatus) -> bytes:
    """HealthCheckResponse: field 1, a varint, absent when 0."""
    return bytes((0x08, status)) if status else b""


def _request(content: bytes) -> str:
    """HealthCheckRequest: field 1, a string; unknown fields are skipped. ValueError for what is malformed."""
    service, position = "", 0
    while position < len(content):
        tag, position = _varint(content, position)
        kind = tag & 7
        if kind == 2:
            size, position = _varint(content, position)
            if position + size > len(content):
                raise ValueError("truncated")
            if tag == 0x0A:
                service = content[position : position + size].decode()
            position += size
        elif kind == 0:
            _, position = _varint(content, position)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError("malformed")
    return service


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(position, min(position + 10, len(content))):
        value |= (content[index] & 0x7F) << shift
        if content[index] < 0x80:
            return value, index + 1
        shift += 7
    raise ValueError("truncated")

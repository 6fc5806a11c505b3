"""The gRPC health protocol says what the HTTP endpoints say, to the official client, on servers of both kinds."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from support.process import wait_for

import connectsoft_obs as obs
from connectsoft_obs.integrations.grpc_health import ServingStatus, _request, _response, add_health

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@pytest.fixture(params=["sync", "aio"])
def address(request: pytest.FixtureRequest, seen: Any) -> Iterator[str]:
    """A gRPC server whose health is that of the capture."""
    if request.param == "sync":
        server = grpc.server(ThreadPoolExecutor(4))
        add_health(server, services=["shop.Orders"])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()
        return
    ports: queue.SimpleQueue[int] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        aio = grpc.aio.server()
        add_health(aio, services=["shop.Orders"])
        ports.put(aio.add_insecure_port("127.0.0.1:0"))
        await aio.start()
        await ending.wait()
        await aio.stop(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    yield f"127.0.0.1:{ports.get(timeout=10)}"
    loop.call_soon_threadsafe(ending.set)
    thread.join(10)
    loop.close()


def test_check_answers_from_the_same_state(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def status(service: str) -> int:
            return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status)

        names = ("", "shop.Orders", "readiness", "liveness", "startup")
        assert [status(name) for name in names] == [SERVING] * 5
        obs.mark_unready("maintenance")
        assert [status(name) for name in names] == [NOT_SERVING] * 3 + [SERVING] * 2
        obs.mark_ready()
        obs.fail_liveness("corrupt")
        assert [status(name) for name in names] == [SERVING] * 3 + [NOT_SERVING, SERVING]


def test_an_unknown_service_is_not_found(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        watched = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
        assert next(watched).status == SERVICE_UNKNOWN
        watched.cancel()


def test_watch_tells_each_change_and_the_drain(address: str, seen: Any) -> None:
    heard: list[int] = []
    with grpc.insecure_channel(address) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)

        def listen() -> None:
            heard.extend(answer.status for answer in _until_end(watched))

        listener = threading.Thread(target=listen)
        listener.start()
        wait_for(lambda: heard == [SERVING], 5)
        obs.mark_unready("maintenance")
        wait_for(lambda: heard == [SERVING, NOT_SERVING], 5)
        obs.mark_ready()
        wait_for(lambda: heard == [SERVING, NOT_SERVING, SERVING], 5)
        seen.telemetry.health.drain("a test")
        wait_for(lambda: heard == [SERVING, NOT_SERVING, SERVING, NOT_SERVING], 5)
        watched.cancel()
        listener.join(5)
        assert not listener.is_alive()


def _until_end(answers: Any) -> Iterator[Any]:
    try:
        yield from answers
    except grpc.RpcError:
        return


def test_what_is_no_server_is_refused(seen: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="not a gRPC server"):
        add_health(object())


@given(st.text(max_size=200), st.binary(max_size=20))
def test_requests_are_read_as_the_official_message_is(service: str, unknown: bytes) -> None:
    encoded = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    assert _request(encoded) == service
    field = b"\x12" + bytes([len(unknown)]) + unknown  # one that a later version may add
    assert _request(field + encoded) == service


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        _request(content)
    except ValueError:
        return


@pytest.mark.parametrize("status", list(ServingStatus))
def test_answers_are_written_as_the_official_message_is(status: ServingStatus) -> None:
    assert _response(status) == health_pb2.HealthCheckResponse(status=int(status)).SerializeToString()

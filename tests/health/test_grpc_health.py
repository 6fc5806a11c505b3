"""gRPC health protocol: the official client sees the state of the HTTP endpoints, on sync and asyncio servers."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.process import wait_for

import connectsoft_obs as obs
from connectsoft_obs.integrations.grpc_health import add_health

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@pytest.fixture(params=["sync", "aio"])
def address(request: pytest.FixtureRequest, captured: Any) -> Iterator[str]:
    """Address of a gRPC server with the health of the capture."""
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
    stopped = asyncio.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        add_health(server, services=["shop.Orders"])
        ports.put(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await stopped.wait()
        await server.stop(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    yield f"127.0.0.1:{ports.get(timeout=10)}"
    loop.call_soon_threadsafe(stopped.set)
    thread.join(10)
    loop.close()


def test_check_reports_the_state_of_the_probes(address: str) -> None:
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


def test_unknown_service_is_not_found(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.Check(health_pb2.HealthCheckRequest(service="shop.Unknown"), timeout=5)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        responses = stub.Watch(health_pb2.HealthCheckRequest(service="shop.Unknown"), timeout=5)
        assert next(responses).status == SERVICE_UNKNOWN
        responses.cancel()


def test_watch_reports_each_change_and_the_drain(address: str, captured: Any) -> None:
    statuses: list[int] = []
    with grpc.insecure_channel(address) as channel:
        responses = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)

        def listen() -> None:
            statuses.extend(response.status for response in until_end(responses))

        listener = threading.Thread(target=listen)
        listener.start()
        wait_for(lambda: statuses == [SERVING], 5)
        obs.mark_unready("maintenance")
        wait_for(lambda: statuses == [SERVING, NOT_SERVING], 5)
        obs.mark_ready()
        wait_for(lambda: statuses == [SERVING, NOT_SERVING, SERVING], 5)
        captured.telemetry.health.drain("a test")
        wait_for(lambda: statuses == [SERVING, NOT_SERVING, SERVING, NOT_SERVING], 5)
        responses.cancel()
        listener.join(5)
        assert not listener.is_alive()


def until_end(responses: Any) -> Iterator[Any]:
    try:
        yield from responses
    except grpc.RpcError:
        return


def test_object_that_is_not_a_server_is_rejected(captured: Any) -> None:
    with pytest.raises(obs.ConfigurationError, match="not a gRPC server"):
        add_health(object())


@pytest.mark.parametrize("package", ["grpc", "grpc_health.v1.health_pb2"])
def test_missing_package_is_reported_with_an_install_hint(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import connectsoft_obs.integrations.grpc_health"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert f"needs {package}: pip install 'connectsoft-obs[grpc]'" in completed.stderr

"""SIGTERM on real servers: readiness fails at once, requests are served during the delay, then the server stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest
from support.asgi_server_commands import SERVERS_WITH_DELAYED_SIGTERM, start_server
from support.process import Service, uvicorn, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from connectsoft_obs.asgi.response_messages import with_connection_close

DELAY = 2.5
"""Seconds; requests are sent in the first half, so that a slow machine ends with them before the delay does."""


def status_of(service: Service, path: str) -> int:
    """The status of a response, 0 if the connection is refused or closed."""
    try:
        return httpx.get(service.url + path, timeout=2).status_code
    except httpx.TransportError:
        return 0


def send_sigterm(service: Service) -> float:
    """Send SIGTERM and return the time."""
    service.process.send_signal(signal.SIGTERM)
    return time.monotonic()


DEFAULT_SERVERS = ("uvicorn", "uvicorn-workers", "gunicorn", "granian")
"""The servers of the default run; the marker `full` selects the others."""


@pytest.mark.parametrize(
    "server",
    [
        server if server in DEFAULT_SERVERS else pytest.param(server, marks=pytest.mark.full)
        for server in SERVERS_WITH_DELAYED_SIGTERM
    ],
)
def test_readiness_fails_at_once_and_requests_are_served_during_the_delay(server: str) -> None:
    with start_server(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": str(DELAY)}) as service:
        service.wait_until_ready()
        workers = 2 if server in ("uvicorn-workers", "gunicorn") else 1
        wait_for(lambda: len({httpx.get(f"{service.url}/hello").text for _ in range(20)}) == workers, 10, "all workers")
        with httpx.Client(base_url=service.url) as client:
            assert "connection" not in client.get("/hello").headers
            started = send_sigterm(service)
            # With workers, the supervisor polls for signals every half second.
            wait_for(lambda: status_of(service, "/health/ready") == 503, 1.2, "readiness fails")
            while True:
                response = httpx.get(f"{service.url}/hello")
                assert response.status_code == 200
                assert status_of(service, "/health/live") == 200
                if time.monotonic() - started > DELAY / 2:
                    break
            assert response.headers["connection"] == "close"
        code = service.process.wait(15)
        assert DELAY <= time.monotonic() - started < DELAY + 5
    assert code == (-signal.SIGTERM if server.startswith("uvicorn") and "workers" not in server else 0)
    assert "Traceback" not in service.output
    if "without" not in server:
        assert "drain started" in service.output
        assert "lifespan ended" in service.output
    lines = [line for line in service.json_lines if line["message"] == "readiness is unhealthy"]
    assert {line["connectsoft.health.cause"] for line in lines} == {"draining: SIGTERM"}


def test_request_in_progress_at_the_end_of_the_delay_is_served() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "1.5"}) as service:
        service.wait_until_ready()
        with httpx.Client(base_url=service.url, timeout=10) as client:
            client.get("/hello")  # opens the connection, which takes time on a slow machine
            send_sigterm(service)
            response = client.get("/slow?seconds=2.5")
        assert (response.status_code, response.text) == (200, "slow")
        assert service.process.wait(10) == -signal.SIGTERM


def test_stream_can_end_itself_when_the_drain_starts() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "2"}) as service:
        service.wait_until_ready()
        with httpx.stream("GET", f"{service.url}/stream") as response:
            lines = response.iter_lines()
            assert next(lines) == "tick"
            started = send_sigterm(service)
            assert "draining" in list(lines)
            assert time.monotonic() - started < 1


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "granian"])
def test_websocket_stays_open_during_the_drain_until_the_server_stops(server: str) -> None:
    with start_server(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": str(DELAY)}) as service:
        service.wait_until_ready()
        with connect(f"{service.url.replace('http', 'ws')}/chat") as socket:
            socket.send("before")
            assert socket.recv(5) == "before"
            started = send_sigterm(service)
            wait_for(lambda: status_of(service, "/health/ready") == 503, 3, "readiness fails")
            socket.send("during the drain")
            assert socket.recv(5) == "during the drain"
            with pytest.raises(ConnectionClosed):
                socket.recv(15)
            assert time.monotonic() - started >= DELAY
        service.process.wait(15)
    [line] = [line for line in service.json_lines if line.get("http.route") == "/chat"]
    assert line["connectsoft.outcome"] == "success"


@pytest.mark.parametrize("server", ["uvicorn", "granian", pytest.param("gunicorn-asgi", marks=pytest.mark.full)])
def test_repeated_sigterm_ends_the_delay_unless_it_follows_immediately(server: str) -> None:
    """The service manager and the supervisor of a server both send the first signal."""
    with start_server(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "20"}) as service:
        service.wait_until_ready()
        worker = int(httpx.get(f"{service.url}/hello").text)
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.2)
        os.kill(worker, signal.SIGTERM)
        time.sleep(1.0)
        assert status_of(service, "/health/ready") == 503
        assert status_of(service, "/hello") == 200
        os.kill(worker, signal.SIGTERM)
        wait_for(lambda: "lifespan ended" in service.output, 5)


@pytest.mark.parametrize("server", ["uvicorn", "granian-asyncio"])
def test_sigint_ends_the_delay(server: str) -> None:
    with start_server(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "20"}) as service:
        service.wait_until_ready()
        worker = int(httpx.get(f"{service.url}/hello").text)
        started = send_sigterm(service)
        wait_for(lambda: status_of(service, "/health/ready") == 503, 3)
        os.kill(worker, signal.SIGINT)
        service.process.wait(10)
        assert time.monotonic() - started < 8
    assert "lifespan ended" in service.output


def test_sigint_alone_has_no_delay() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "20"}) as service:
        service.wait_until_ready()
        started = time.monotonic()
        service.stop(signal.SIGINT)
        assert time.monotonic() - started < 5
    [line] = [line for line in service.json_lines if line["message"] == "readiness is unhealthy"]
    assert line["connectsoft.health.cause"] == "draining: the server stops"


def test_unknown_platform_has_no_delay() -> None:
    with uvicorn("lifecycle:app") as service:
        service.wait_until_ready()
        started = time.monotonic()
        service.stop()
        assert time.monotonic() - started < 3


def test_process_that_was_never_ready_has_no_delay(tmp_path: Any) -> None:
    env = {"CONNECTSOFT_OBS_DRAIN_DELAY": "20", "CHECKS": "task", "TASK_FILE": str(tmp_path / "never")}
    with uvicorn("lifecycle:app", env=env) as service:
        service.wait_until_ready("/hello")
        started = send_sigterm(service)
        service.process.wait(10)
        assert time.monotonic() - started < 5


def test_blocked_event_loop_does_not_prevent_the_stop() -> None:
    """The previous handler is called in the main thread although the loop is blocked."""
    code = """
import asyncio, os, signal, sys, time
import connectsoft_obs as obs
signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
async def main():
    health = obs.configure(service="a", drain_delay=0.3).health
    health.start()
    assert health.install_sigterm_delay()
    print("blocked", flush=True)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"blocked\n"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 42
        assert 1.2 < time.monotonic() - started < 6


@pytest.mark.parametrize("chained", [True, False])
def test_handler_that_the_application_sets_later_is_kept(chained: bool) -> None:
    code = f"""
import asyncio, os, signal, time
import connectsoft_obs as obs
signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
async def main():
    health = obs.configure(service="a", drain_delay=0.5).health
    health.start()
    assert health.install_sigterm_delay()
    previous_handler = signal.getsignal(signal.SIGTERM)
    def application_handler(signum, frame):
        print("application handler", flush=True)
        if {chained}:
            previous_handler(signum, frame)
        else:
            os._exit(7)
    signal.signal(signal.SIGTERM, application_handler)
    started = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(10)
asyncio.run(main())
"""
    started = time.monotonic()
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert completed.returncode == (42 if chained else 7), completed.stderr
    assert completed.stdout.count("application handler") == 1
    assert not chained or time.monotonic() - started > 0.5


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_event_loop_signal_handler_is_called_once_after_the_delay(loop: str) -> None:
    code = f"""
import asyncio, os, signal, time
import {loop}
import connectsoft_obs as obs
async def main():
    loop = asyncio.get_running_loop()
    sigterm_times, sigusr1_times = [], []
    loop.add_signal_handler(signal.SIGTERM, lambda: sigterm_times.append(time.monotonic()))
    loop.add_signal_handler(signal.SIGUSR1, lambda: sigusr1_times.append(time.monotonic()))
    health = obs.configure(service="a", drain_delay=0.5, log_level="critical").health
    health.start()
    assert health.install_sigterm_delay()
    started = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.2)
    assert health.draining
    print(len(sigterm_times), len(sigusr1_times))
    while not sigterm_times:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    print(len(sigterm_times), sigterm_times[0] - started > 0.45)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)
    print(len(sigterm_times))
loop = {loop}.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert completed.stdout.splitlines() == ["0 1", "1 True", "2"], completed.stderr


def test_server_that_does_not_pass_sigterm_to_workers_is_warned_about() -> None:
    with start_server("hypercorn", "lifecycle:app", env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) as service:
        service.wait_until_ready()
        service.stop()
    [line] = [line for line in service.json_lines if line["severity"] == "WARN"]
    assert "the workers of this server do not receive SIGTERM" in line["message"]
    assert line["connectsoft.obs.drain_delay"] == 10
    assert "lifecycle.preStop.sleep.seconds" in line["message"]
    assert "CONNECTSOFT_OBS_DRAIN_DELAY=0" in line["message"]


def test_first_response_in_a_drain_closes_a_persistent_connection() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "5"}) as service:
        service.wait_until_ready()
        with socket.create_connection(("127.0.0.1", service.port), 5) as connection:
            request = b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n"
            connection.sendall(request)
            assert b"connection: close" not in connection.recv(4096)
            send_sigterm(service)
            wait_for(lambda: status_of(service, "/health/ready") == 503, 3)
            connection.sendall(request)
            content = b""
            while part := connection.recv(4096):
                content += part
            assert b"connection: close" in content


def test_websocket_handshake_is_not_changed_in_a_drain() -> None:
    accept = {"type": "websocket.accept", "headers": []}
    assert with_connection_close(accept) is accept
    start = {"type": "http.response.start", "status": 200, "headers": []}
    assert with_connection_close(start)["headers"] == [(b"connection", b"close")]


def test_connection_header_of_the_application_is_kept() -> None:
    message: dict[str, Any] = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"Connection", b"keep-alive")],
    }
    assert with_connection_close(message) is message
    without_header: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
    assert with_connection_close(without_header)["headers"] == [(b"connection", b"close")]
    assert without_header["headers"] == []

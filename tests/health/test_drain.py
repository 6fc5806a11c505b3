"""SIGTERM on real servers: red at once, served to the end of the delay, then the server's own stop."""

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
from support.asgi_server_commands import HOOKED, serve
from support.process import Service, uvicorn, wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from connectsoft_obs.asgi.request import closing

DELAY = 1.5


def answers(service: Service, path: str) -> int:
    """A status, 0 for a connection that is refused or cut."""
    try:
        return httpx.get(service.url + path, timeout=2).status_code
    except httpx.TransportError:
        return 0


def term(service: Service) -> float:
    service.process.send_signal(signal.SIGTERM)
    return time.monotonic()


SHORT = ("uvicorn", "uvicorn-workers", "gunicorn", "granian")
"""The servers of the ordinary run; the others of the table are behind the marker `full`."""


@pytest.mark.parametrize(
    "server", [server if server in SHORT else pytest.param(server, marks=pytest.mark.full) for server in HOOKED]
)
def test_readiness_is_red_at_once_and_requests_are_served_for_the_delay(server: str) -> None:
    with serve(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": str(DELAY)}) as service:
        service.ready()
        workers = 2 if server in ("uvicorn-workers", "gunicorn") else 1
        wait_for(lambda: len({httpx.get(f"{service.url}/hello").text for _ in range(20)}) == workers, 10, "all workers")
        with httpx.Client(base_url=service.url) as kept:
            assert "connection" not in kept.get("/hello").headers
            began = term(service)
            # With workers, the supervisor looks at its signals every half second.
            wait_for(lambda: answers(service, "/health/ready") == 503, 1.2, "readiness is red")
            served = 0
            while time.monotonic() - began < DELAY - 0.3:
                answer = httpx.get(f"{service.url}/hello")
                assert answer.status_code == 200
                served += 1
            assert served
            assert answer.headers["connection"] == "close"
            assert answers(service, "/health/live") == 200
        code = service.process.wait(15)
        assert DELAY <= time.monotonic() - began < DELAY + 5
    assert code == (-signal.SIGTERM if server.startswith("uvicorn") and "workers" not in server else 0)
    assert "Traceback" not in service.said
    if "without" not in server:
        assert "told of the drain" in service.said
        assert "lifespan ended" in service.said
    lines = [line for line in service.lines if line["message"] == "readiness is unhealthy"]
    assert {line["cause"] for line in lines} == {"draining: SIGTERM"}


def test_a_request_that_is_being_served_when_the_delay_ends_is_served() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "0.5"}) as service:
        service.ready()
        term(service)
        answer = httpx.get(f"{service.url}/slow?seconds=1.5", timeout=5)
        assert (answer.status_code, answer.text) == (200, "slow")
        assert service.process.wait(10) == -signal.SIGTERM


def test_a_stream_hears_of_the_drain_and_ends_when_it_likes() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "2"}) as service:
        service.ready()
        with httpx.stream("GET", f"{service.url}/stream") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "tick"
            began = term(service)
            assert "draining" in list(lines)
            assert time.monotonic() - began < 1


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "granian"])
def test_a_conversation_goes_on_through_the_drain_and_ends_with_the_servers_own_stop(server: str) -> None:
    with serve(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": str(DELAY)}) as service:
        service.ready()
        with connect(f"{service.url.replace('http', 'ws')}/talk") as socket:
            socket.send("before")
            assert socket.recv(5) == "before"
            began = term(service)
            wait_for(lambda: answers(service, "/health/ready") == 503, 3, "readiness is red")
            socket.send("meanwhile")
            assert socket.recv(5) == "meanwhile"
            with pytest.raises(ConnectionClosed):
                socket.recv(15)
            assert time.monotonic() - began >= DELAY
        service.process.wait(15)
    [line] = [line for line in service.lines if line.get("http.route") == "/talk"]
    assert line["connectsoft.outcome"] == "success"


@pytest.mark.parametrize("server", ["uvicorn", "granian", pytest.param("gunicorn-asgi", marks=pytest.mark.full)])
def test_a_second_sigterm_skips_the_wait_but_not_one_that_comes_with_the_first(server: str) -> None:
    """Systemd and a supervisor both send the first one."""
    with serve(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "20"}) as service:
        service.ready()
        worker = int(httpx.get(f"{service.url}/hello").text)
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.2)
        os.kill(worker, signal.SIGTERM)
        time.sleep(1.0)
        assert answers(service, "/health/ready") == 503
        assert answers(service, "/hello") == 200
        os.kill(worker, signal.SIGTERM)
        wait_for(lambda: "lifespan ended" in service.said, 5)


@pytest.mark.parametrize("server", ["uvicorn", "granian-asyncio"])
def test_sigint_skips_the_wait(server: str) -> None:
    with serve(server, "lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "20"}) as service:
        service.ready()
        worker = int(httpx.get(f"{service.url}/hello").text)
        began = term(service)
        wait_for(lambda: answers(service, "/health/ready") == 503, 3)
        os.kill(worker, signal.SIGINT)
        service.process.wait(10)
        assert time.monotonic() - began < 8
    assert "lifespan ended" in service.said


def test_sigint_alone_never_waits() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "20"}) as service:
        service.ready()
        began = time.monotonic()
        service.stop(signal.SIGINT)
        assert time.monotonic() - began < 5
    [line] = [line for line in service.lines if line["message"] == "readiness is unhealthy"]
    assert line["cause"] == "draining: the server stops"


def test_without_a_platform_nothing_waits() -> None:
    with uvicorn("lifecycle:app") as service:
        service.ready()
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 3


def test_a_process_that_was_never_ready_stops_at_once(tmp_path: Any) -> None:
    env = {"CONNECTSOFT_OBS_DRAIN_DELAY": "20", "CHECKS": "task", "TASK_FILE": str(tmp_path / "never")}
    with uvicorn("lifecycle:app", env=env) as service:
        service.ready("/hello")
        began = term(service)
        service.process.wait(10)
        assert time.monotonic() - began < 5


def test_a_blocked_event_loop_does_not_keep_a_process_alive_longer_than_without_us() -> None:
    """The handler from before is called in the main thread although the loop does not turn."""
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
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 42
        assert 1.2 < time.monotonic() - began < 6


@pytest.mark.parametrize("chained", [True, False])
def test_a_handler_that_the_application_sets_later_has_its_way(chained: bool) -> None:
    code = f"""
import asyncio, os, signal, time
import connectsoft_obs as obs
signal.signal(signal.SIGTERM, lambda *_: os._exit(42))
async def main():
    health = obs.configure(service="a", drain_delay=0.5).health
    health.start()
    assert health.install_sigterm_delay()
    before = signal.getsignal(signal.SIGTERM)
    def theirs(signum, frame):
        print("theirs", flush=True)
        if {chained}:
            before(signum, frame)
        else:
            os._exit(7)
    signal.signal(signal.SIGTERM, theirs)
    began = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(10)
asyncio.run(main())
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == (42 if chained else 7), done.stderr
    assert done.stdout.count("theirs") == 1
    assert not chained or time.monotonic() - began > 0.5


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_handler_of_the_event_loop_is_called_once_and_after_the_delay(loop: str) -> None:
    code = f"""
import asyncio, os, signal, time
import {loop}
import connectsoft_obs as obs
async def main():
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    called, others = [], []
    loop.add_signal_handler(signal.SIGTERM, lambda: called.append(time.monotonic()))
    loop.add_signal_handler(signal.SIGUSR1, lambda: others.append(time.monotonic()))
    health = obs.configure(service="a", drain_delay=0.5, log_level="critical").health
    health.start()
    assert health.install_sigterm_delay()
    began = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.2)
    assert health.draining
    print(len(called), len(others))
    while not called:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    print(len(called), called[0] - began > 0.45)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)
    print(len(called))
loop = {loop}.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.splitlines() == ["0 1", "1 True", "2"], done.stderr


def test_workers_that_are_not_told_of_sigterm_say_so_at_start() -> None:
    with serve("hypercorn", "lifecycle:app", env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) as service:
        service.ready()
        service.stop()
    [line] = [line for line in service.lines if line["severity"] == "WARN"]
    assert "drain_delay of 10 s cannot be kept" in line["message"]
    assert "lifecycle.preStop.sleep.seconds" in line["message"]
    assert "CONNECTSOFT_OBS_DRAIN_DELAY=0" in line["message"]


def test_idle_connections_of_http_1_0_and_1_1_are_closed_by_the_first_answer_in_a_drain() -> None:
    with uvicorn("lifecycle:app", env={"CONNECTSOFT_OBS_DRAIN_DELAY": "5"}) as service:
        service.ready()
        with socket.create_connection(("127.0.0.1", service.port), 5) as connection:
            request = b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n"
            connection.sendall(request)
            assert b"connection: close" not in connection.recv(4096)
            term(service)
            wait_for(lambda: answers(service, "/health/ready") == 503, 3)
            connection.sendall(request)
            content = b""
            while part := connection.recv(4096):
                content += part
            assert b"connection: close" in content


def test_the_handshake_of_a_websocket_keeps_its_upgrade() -> None:
    accept = {"type": "websocket.accept", "headers": []}
    assert closing(accept) is accept
    start = {"type": "http.response.start", "status": 200, "headers": []}
    assert closing(start)["headers"] == [(b"connection", b"close")]


def test_the_application_s_own_connection_header_stays() -> None:
    from connectsoft_obs.asgi.request import closing

    message: dict[str, Any] = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"Connection", b"keep-alive")],
    }
    assert closing(message) is message
    bare: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
    assert closing(bare)["headers"] == [(b"connection", b"close")]
    assert bare["headers"] == []

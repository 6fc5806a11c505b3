"""The side listener of a web service: one port, held by one of its workers, and passed on when that one ends."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx
from support.exposition import parse_page, scrape
from support.process import free_port, gunicorn, uvicorn, wait_for


def asked(port: int, path: str = "/metrics") -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)
    except httpx.TransportError:
        return None


def test_there_is_none_unless_it_is_asked_for() -> None:
    with uvicorn("shop:app") as service:
        service.wait_until_ready()
        assert asked(9464) is None


def test_every_endpoint_is_on_it() -> None:
    port = free_port()
    with uvicorn("shop:app", env={"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}) as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/order")
        wait_for(lambda: asked(port), 10, "the side listener answers")
        for path in ("/metrics", "/health/live", "/health/ready", "/health/startup", "/info"):
            found = asked(port, path)
            assert found is not None
            assert found.status_code == 200, path
        found = asked(port)
        assert found is not None
        assert parse_page(found.text, openmetrics=False).value("orders_placed_total") == 1
        other = asked(port, "/order")
        assert other is not None
        assert other.status_code == 404, "the application is not on it"
        service.stop()
    assert asked(port) is None


def test_it_passes_to_another_worker_when_its_own_is_killed(tmp_path: Path) -> None:
    port = free_port()
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}
    with gunicorn("shop:app", workers=2, env=env) as service:
        service.wait_until_ready()
        for _ in range(20):
            httpx.get(f"{service.url}/order")
        wait_for(lambda: asked(port), 10, "the side listener answers")
        for _ in range(3):
            owner = _owner(port)
            os.kill(owner, signal.SIGKILL)
            wait_for(lambda owner=owner: _owner(port) not in (0, owner), 10, "another worker has the port")  # type: ignore[misc]
            found = wait_for(lambda: asked(port), 10)
            assert found is not None
            assert parse_page(found.text, openmetrics=False).value("orders_placed_total") == 20
        assert "Traceback" not in service.output


def _owner(port: int) -> int:
    """Pid of the process that listens on a port, 0 for none."""
    wanted = f"{port:04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{wanted}") and line.split()[3] == "0A"
    }
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                links = {os.readlink(link) for link in (process / "fd").iterdir()}
            except OSError:
                continue
            if links & {f"socket:[{inode}]" for inode in inodes}:
                return int(process.name)
    return 0


def test_a_port_that_somebody_else_has_is_told_of_and_taken_when_it_is_free() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with uvicorn("shop:app", env={"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}) as service:
            service.wait_until_ready()
            wait_for(lambda: "side listener: port in use" in service.output, 10, "it says so")
            assert scrape(service.url).has("target_info"), "and serves"
            taken.close()
            wait_for(lambda: asked(port), 10)
            [line] = [line for line in service.json_lines if "side listener: port in use" in line["message"]]
            assert (line["severity"], line["port"]) == ("WARN", port)

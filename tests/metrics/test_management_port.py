"""The management port of a web service: one port, bound by one worker and taken over by another if that one exits."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import httpx
from support.exposition import parse_page, scrape
from support.process import free_port, gunicorn, uvicorn, wait_for


def request(port: int, path: str = "/metrics") -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)
    except httpx.TransportError:
        return None


def test_management_port_is_off_by_default() -> None:
    with uvicorn("shop:app") as service:
        service.wait_until_ready()
        assert request(9464) is None


def test_management_port_serves_every_endpoint() -> None:
    port = free_port()
    with uvicorn("shop:app", env={"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}) as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/order")
        wait_for(lambda: request(port), 10, "the management port responds")
        for path in ("/metrics", "/health/live", "/health/ready", "/health/startup", "/info"):
            response = request(port, path)
            assert response is not None
            assert response.status_code == 200, path
        page = request(port)
        assert page is not None
        assert parse_page(page.text, openmetrics=False).value("orders_placed_total") == 1
        response = request(port, "/order")
        assert response is not None
        assert response.status_code == 404, "the management port serves the application"
        service.stop()
    assert request(port) is None


def test_another_worker_binds_the_port_if_its_owner_is_killed(tmp_path: Path) -> None:
    port = free_port()
    env = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}
    with gunicorn("shop:app", workers=2, env=env) as service:
        service.wait_until_ready()
        for _ in range(20):
            httpx.get(f"{service.url}/order")
        wait_for(lambda: request(port), 10, "the management port responds")
        for _ in range(3):
            owner = _owner(port)
            os.kill(owner, signal.SIGKILL)
            wait_for(lambda owner=owner: _owner(port) not in (0, owner), 10, "another worker to bind the port")  # type: ignore[misc]
            page = wait_for(lambda: request(port), 10)
            assert page is not None
            assert parse_page(page.text, openmetrics=False).value("orders_placed_total") == 20
        assert "Traceback" not in service.output


def _owner(port: int) -> int:
    """Return the pid of the process that listens on a port, or 0."""
    hex_port = f"{port:04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{hex_port}") and line.split()[3] == "0A"
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


def test_port_in_use_is_logged_and_bound_when_it_becomes_free() -> None:
    with socket.socket() as other_listener:
        other_listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other_listener.bind(("127.0.0.1", 0))
        other_listener.listen()
        port = other_listener.getsockname()[1]
        with uvicorn("shop:app", env={"OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}) as service:
            service.wait_until_ready()
            wait_for(lambda: "cannot listen on the management port" in service.output, 10, "the warning")
            assert scrape(service.url).has("target_info"), "the service does not respond"
            other_listener.close()
            wait_for(lambda: request(port), 10)
            [line] = [line for line in service.json_lines if "cannot listen on the management port" in line["message"]]
            assert (line["severity"], line["server.port"]) == ("WARN", port)

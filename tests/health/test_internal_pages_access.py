"""Who may see `/metrics` and `/info`: scrapers that connect directly may, clients behind a proxy may not."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from support.process import APPS, Service, free_port, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture

PAGES = ["/metrics", "/info"]


def request(path: str, peer: str | None, host: str, *, version: str = "1.1", server: Any = ("10.1.2.3", 8000),
            headers: dict[str, str] | None = None, **settings: Any) -> tuple[int, Captured]:  # fmt: skip
    """Return the status of a request to a service, and what was captured."""
    raw = [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in (headers or {}).items())]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": raw, "http_version": version,
             "client": None if peer is None else (peer, 50000), "server": server, "scheme": "http"}  # fmt: skip
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    with capture() as seen:
        app = obs.ObservabilityMiddleware(Starlette(), service="a", **settings)
        asyncio.run(app(scope, receive, send))
    return sent[0]["status"], seen


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.244.1.7", "10.244.3.9:8000"),  # Prometheus in a cluster, pod address
        ("10.244.1.7", "orders"),
        ("10.244.1.7", "orders.shop.svc:8000"),
        ("10.244.1.7", "orders.shop.svc.cluster.local"),
        ("fd00::7", "[fd00::9]:8000"),
        ("100.64.3.9", "100.64.3.10:8000"),
        ("::ffff:10.0.0.1", "orders:8000"),
        ("10.0.0.4", "vm1.corp.example.com:8000"),  # a static target by its full name
        ("127.0.0.1", "localhost:8000"),
        ("testclient", "testserver"),
        (None, "orders:8000"),
    ],
)
def test_client_in_the_same_network_sees_internal_pages(path: str, peer: str | None, host: str) -> None:
    assert request(path, peer, host)[0] == 200


HIDDEN: dict[str, dict[str, Any]] = {
    "nginx with proxy_pass only": {"peer": "127.0.0.1", "host": "127.0.0.1:8000", "version": "1.0"},
    "a proxy that passes the host on": {"peer": "10.0.0.4", "host": "api.example.com"},
    "a proxy that passes host and port on": {"peer": "10.0.0.4", "host": "API.example.com.:443"},
    "a Unix socket": {"peer": None, "host": "localhost", "server": ("/run/app.sock", None)},
    "a load balancer that keeps addresses": {"peer": "8.8.8.8", "host": "orders"},
    "an IPv6 client": {"peer": "2606:4700::1111", "host": "orders"},
    "a load balancer with a public address": {"peer": "10.0.0.4", "host": "8.8.8.8"},
    "a public IPv6 host": {"peer": "10.0.0.4", "host": "[2606:4700::1111]:8000"},
    "a proxy with headers": {"peer": "10.0.0.4", "host": "orders", "headers": {"x-real-ip": "10.0.0.9"}},
    "a proxy that is named": {"peer": "10.0.0.4", "host": "orders", "trusted_proxies": "10.0.0.4/32"},
}
ALLOWED: dict[str, dict[str, Any]] = {
    "metrics_public": {"metrics_public": True},
    "details_token": {"details_token": "a-long-secret", "headers": {"authorization": "Bearer a-long-secret"}},
    "metrics_token": {"metrics_token": "a-long-secret", "headers": {"authorization": "Bearer a-long-secret"}},
    "development": {"environment": "development"},
}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("way", HIDDEN)
def test_client_behind_a_proxy_sees_no_internal_pages(way: str, path: str) -> None:
    status, seen = request(path, **HIDDEN[way])
    assert status == 404
    [line] = [line for line in seen.logs if f"a request for {path} was answered with 404" in line["message"]]
    assert line["severity"] == "INFO"
    assert "CONNECTSOFT_OBS_METRICS_TOKEN" in line["message"]


@pytest.mark.parametrize("setting", ALLOWED)
@pytest.mark.parametrize("way", HIDDEN)
def test_internal_pages_are_shown_where_a_setting_allows_them(way: str, setting: str) -> None:
    headers = {**HIDDEN[way].get("headers", {}), **ALLOWED[setting].get("headers", {})}
    assert request("/metrics", **{**HIDDEN[way], **ALLOWED[setting], "headers": headers})[0] == 200


@pytest.mark.parametrize(
    ("settings", "version", "status"),
    [
        ({"details_networks": "8.8.0.0/16"}, "1.1", 200),
        ({"details_networks": "8.8.0.0/16"}, "1.0", 404),
        ({"details_networks": "8.8.0.0/16", "trusted_proxies": "8.8.8.8/32"}, "1.1", 404),
        ({"details_networks": "9.9.0.0/16"}, "1.1", 404),
    ],
)
def test_details_networks_allow_direct_clients_only(settings: dict[str, Any], version: str, status: int) -> None:
    assert request("/metrics", "8.8.8.8", "api.example.com", version=version, **settings)[0] == status


def exchange(connection: socket.socket, head: str) -> bytes:
    connection.settimeout(10)
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian"])
def test_server_shows_internal_pages_to_a_scraper_and_not_to_nginx(server: str) -> None:
    """Sends what nginx sends with `proxy_pass http://127.0.0.1:8000;` and no other directive."""
    port = free_port()
    command = {
        "uvicorn": ["uvicorn", "orders:app", "--port", str(port)],
        "hypercorn": ["hypercorn", "orders:app", "-b", f"127.0.0.1:{port}"],
        "granian": ["granian", "orders:app", "--interface", "asgi", "--port", str(port)],
    }[server]
    with Service([sys.executable, "-m", *command], port, {"PYTHONPATH": str(APPS)}) as service:
        service.wait_until_ready()
        for path in PAGES:
            direct = f"GET {path} HTTP/1.1\nHost: 127.0.0.1:{port}\nConnection: close"
            proxied = f"GET {path} HTTP/1.0\nHost: 127.0.0.1:{port}\nConnection: close"
            for head, status in ((direct, b"200"), (proxied, b"404")):
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    assert exchange(connection, head).split(None, 2)[1] == status


def test_service_on_a_unix_socket_shows_no_internal_pages(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    command = [sys.executable, "-m", "uvicorn", "orders:app", "--uds", str(path)]
    with Service(command, 0, {"PYTHONPATH": str(APPS)}):
        wait_for(path.exists, 30)
        for page, status in (("/metrics", b"404"), ("/health/live", b"200")):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                head = f"GET {page} HTTP/1.1\nHost: localhost\nConnection: close"
                assert exchange(connection, head).split(None, 2)[1] == status

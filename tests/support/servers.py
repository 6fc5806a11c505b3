"""Starts an OTLP collector (rotel) and Prometheus. A test fails, and is not skipped, if a program is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.process import free_port, wait_for


def program_path(name: str) -> str:
    """The path of a program; fails the test if it is not installed."""
    path = shutil.which(name)
    assert path, f"{name} is not installed; .ci/run installs it"
    return path


def is_listening(port: int) -> bool:
    """Whether a process accepts connections on a loopback port."""
    with socket.socket() as client:
        client.settimeout(0.2)
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_server(
    command: list[str], port: int, seconds: float = 20.0, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server process, wait until it listens on a port, and kill it at the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)
        try:
            wait_for(
                lambda: is_listening(port) or process.poll() is not None, seconds, f"{command[0]} listens on {port}"
            )
            if process.poll() is not None:
                log.seek(0)
                message = f"{command[0]} exited during its start: {log.read().decode(errors='replace')[-2000:]}"
                raise AssertionError(message)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class RotelCollector:
    """A running rotel collector."""

    http: str
    grpc: str
    process: subprocess.Popen[bytes]


@contextmanager
def rotel(sink: str, http_port: int | None = None, grpc_port: int | None = None) -> Iterator[RotelCollector]:
    """Run a rotel collector that forwards OTLP to a sink."""
    spec = importlib.util.find_spec("rotel")
    assert spec is not None, "rotel is not installed"
    assert spec.origin is not None
    http_port, grpc_port = http_port or free_port(), grpc_port or free_port()
    command = [
        str(Path(spec.origin).parent / "rotel-agent"),
        "start",
        f"--otlp-http-endpoint=127.0.0.1:{http_port}",
        f"--otlp-grpc-endpoint=127.0.0.1:{grpc_port}",
        "--exporter=otlp",
        f"--otlp-exporter-endpoint={sink}",
        "--otlp-exporter-protocol=http",
        "--batch-timeout=100ms",
    ]
    with running_server(command, http_port) as process:
        wait_for(lambda: is_listening(grpc_port))
        yield RotelCollector(f"http://127.0.0.1:{http_port}", f"http://127.0.0.1:{grpc_port}", process)


class Prometheus:
    """The API of a running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The instant vector of an expression, now or at a Unix time."""
        parameters = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        response = httpx.get(f"{self.url}/api/v1/query", params=parameters, timeout=10).json()
        assert response["status"] == "success", response
        vector: list[dict[str, Any]] = response["data"]["result"]
        return vector

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The first value of an expression, or None if the result is empty."""
        vector = self.query(expression, at)
        return float(vector[0]["value"][1]) if vector else None

    def are_targets_up(self) -> bool:
        """Whether the last scrape of every target succeeded."""
        response = httpx.get(f"{self.url}/api/v1/targets", timeout=10).json()
        targets = response["data"]["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)


@contextmanager
def prometheus(*targets: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes targets (host:port) every second."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "test", "static_configs": [{"targets": list(targets)}]}],
        }
        (directory / "prometheus.yml").write_text(json.dumps(config))
        command = [
            program_path("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        with running_server(command, port):
            server = Prometheus(f"http://127.0.0.1:{port}")
            wait_for(lambda: httpx.get(f"{server.url}/-/ready", timeout=5).status_code == 200, 20)
            yield server

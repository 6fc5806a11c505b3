"""Servers that operators run: a Rust OTLP collector, Prometheus. A missing one fails the test; it never skips it."""

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


def program(name: str) -> str:
    """The path of a program that must be installed."""
    found = shutil.which(name)
    assert found, f"{name} is not installed; .ci/run installs it"
    return found


def listening(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], port: int, seconds: float = 20.0, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that listens on a port, stopped at the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)
        try:
            wait_for(lambda: listening(port) or process.poll() is not None, seconds, f"{command[0]} listens on {port}")
            if process.poll() is not None:
                log.seek(0)
                message = f"{command[0]} ended at once: {log.read().decode(errors='replace')[-2000:]}"
                raise AssertionError(message)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass
class Collector:
    """A running collector."""

    http: str
    grpc: str
    process: subprocess.Popen[bytes]


@contextmanager
def rotel(sink: str, http_port: int | None = None, grpc_port: int | None = None) -> Iterator[Collector]:
    """The rotel collector between a service and a sink."""
    spec = importlib.util.find_spec("rotel")
    assert spec is not None, "rotel is not installed"
    assert spec.origin is not None
    http_port, grpc_port = http_port or free_port(), grpc_port or free_port()
    agent = str(Path(spec.origin).parent / "rotel-agent")
    command = [
        agent,
        "start",
        f"--otlp-http-endpoint=127.0.0.1:{http_port}",
        f"--otlp-grpc-endpoint=127.0.0.1:{grpc_port}",
        "--exporter=otlp",
        f"--otlp-exporter-endpoint={sink}",
        "--otlp-exporter-protocol=http",
        "--batch-timeout=100ms",
    ]
    with running(command, http_port) as process:
        wait_for(lambda: listening(grpc_port))
        yield Collector(f"http://127.0.0.1:{http_port}", f"http://127.0.0.1:{grpc_port}", process)


class Prometheus:
    """A running Prometheus, and its API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The instant vector of an expression, now or at a Unix time."""
        asked = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        answer = httpx.get(f"{self.url}/api/v1/query", params=asked, timeout=10).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The one number of an expression, or None when there is none."""
        found = self.query(expression, at)
        return float(found[0]["value"][1]) if found else None

    def targets_up(self) -> bool:
        """Whether every target was scraped."""
        answer = httpx.get(f"{self.url}/api/v1/targets", timeout=10).json()
        active = answer["data"]["activeTargets"]
        return bool(active) and all(target["health"] == "up" for target in active)


@contextmanager
def prometheus(*targets: str, interval: str = "1s", rules: str | None = None, more: str = "") -> Iterator[Prometheus]:
    """Prometheus scraping host:port targets."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config: dict[str, Any] = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [{"job_name": "test", "static_configs": [{"targets": list(targets)}]}],
        }
        if rules is not None:
            (place / "rules.yml").write_text(rules)
            config["rule_files"] = ["rules.yml"]
        (place / "prometheus.yml").write_text(json.dumps(config) + more)
        command = [
            program("prometheus"),
            f"--config.file={place / 'prometheus.yml'}",
            f"--storage.tsdb.path={place / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        with running(command, port):
            found = Prometheus(f"http://127.0.0.1:{port}")
            wait_for(lambda: httpx.get(f"{found.url}/-/ready", timeout=5).status_code == 200, 20)
            yield found

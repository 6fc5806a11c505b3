"""Runs the collector to which benchmarks export: a rotel in another process that discards everything."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def discarding_collector() -> Iterator[str]:
    """Run rotel with its blackhole exporter; yields the address for OTLP/HTTP."""
    spec = importlib.util.find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    http_port, grpc_port = free_port(), free_port()
    command = [
        str(Path(spec.origin).parent / "rotel-agent"), "start", "--exporter=blackhole",
        f"--otlp-http-endpoint=127.0.0.1:{http_port}", f"--otlp-grpc-endpoint=127.0.0.1:{grpc_port}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if is_listening(http_port):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{http_port}"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that is free at the time of the call."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Whether a process accepts connections on a loopback port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0

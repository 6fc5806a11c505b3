"""Where benchmarks export to: a collector in another process that takes everything and keeps nothing."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def collector() -> Iterator[str]:
    """The address of a running rotel with its blackhole exporter."""
    spec = importlib.util.find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    command = [
        str(Path(spec.origin).parent / "rotel-agent"), "start", "--exporter=blackhole",
        f"--otlp-http-endpoint=127.0.0.1:{ports[0]}", f"--otlp-grpc-endpoint=127.0.0.1:{ports[1]}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports[0])) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        process.kill()
        process.wait()

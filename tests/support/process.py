"""Starts a service in a subprocess, reads its output and stops it; every wait has a deadline."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
APPS = Path(__file__).parent.parent / "apps"
_INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")


def wait_for(condition: Callable[[], T], seconds: float = 10.0, description: str = "") -> T:
    """Poll a condition every 10 ms and return its first true value; raise AssertionError after the deadline.

    A condition that raises AttributeError, LookupError or a transport error counts as false: a key, an attribute or a
    server may not exist yet.
    """
    deadline = time.monotonic() + seconds
    while True:
        value: T | Exception
        last_error: Exception | None = None
        try:
            if value := condition():
                return value
        except (AttributeError, LookupError, httpx.TransportError) as error:
            value = last_error = error
        if time.monotonic() > deadline:
            message = f"not within {seconds} s: {description or condition!r}; last value {value!r}"
            raise AssertionError(message) from last_error
        time.sleep(0.01)


def free_port() -> int:
    """A port that is free at the time of the call."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Service:
    """A subprocess and its output. A context manager that kills the process at the end if it is still running."""

    def __init__(self, command: Sequence[str], port: int, env: Mapping[str, str] | None = None) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        environment = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": str(APPS), **(env or {})}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self.stdout_lines: list[str] = []
        self.stderr_lines: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=stream_and_lines, daemon=True)
            for stream_and_lines in ((self.process.stdout, self.stdout_lines), (self.process.stderr, self.stderr_lines))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    @property
    def json_lines(self) -> list[dict[str, Any]]:
        """The lines of standard output that are JSON objects."""
        return [json.loads(line) for line in list(self.stdout_lines) if line.startswith("{")]

    @property
    def output(self) -> str:
        """Standard output and standard error, for messages of failed assertions."""
        return "".join([*self.stdout_lines, *self.stderr_lines])

    def wait_until_ready(self, path: str = "/health/ready", seconds: float = 15.0) -> Service:
        """Wait until a path answers 200."""

        def answers_200() -> bool:
            if self.process.poll() is not None:
                message = f"the process exited with {self.process.returncode} before it was ready:\n{self.output}"
                raise AssertionError(message)
            try:
                return httpx.get(self.url + path, timeout=1).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers_200, seconds, f"{path} answers 200; output:\n{self.output}")
        return self

    def stop(self, sig: signal.Signals = signal.SIGTERM, seconds: float = 15.0) -> int:
        """Send a signal, wait for the process to exit and return its exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, sig) if sig is signal.SIGKILL else self.process.send_signal(sig)
        try:
            exit_code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            message = f"the process did not exit within {seconds} s of {sig.name}; output:\n{self.output}"
            raise AssertionError(message) from None
        for reader in self._readers:
            reader.join(5)
        return exit_code

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.decode("utf-8", "replace"))  # noqa: PERF401  each line is visible as soon as it arrives
        stream.close()


def uvicorn(app: str, *options: str, env: Mapping[str, str] | None = None) -> Service:
    """Start `module:app` of tests/apps under uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(APPS), "--port", str(port), *options]
    return Service(command, port, env)


def gunicorn(app: str, *options: str, workers: int = 2, env: Mapping[str, str] | None = None) -> Service:
    """Start `module:app` of tests/apps under gunicorn with uvicorn's worker class."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", app, "-k", "uvicorn.workers.UvicornWorker", "-w", str(workers)]
    return Service([*command, "-b", f"127.0.0.1:{port}", *options], port, {"PYTHONWARNINGS": "ignore", **(env or {})})


def granian(app: str, *options: str, workers: int = 2, env: Mapping[str, str] | None = None) -> Service:
    """Start `module:app` of tests/apps under granian."""
    port = free_port()
    command = [sys.executable, "-m", "granian", app, "--interface", "asgi", "--workers", str(workers)]
    return Service([*command, "--host", "127.0.0.1", "--port", str(port), *options], port, env)


def hypercorn(app: str, *options: str, workers: int = 2, env: Mapping[str, str] | None = None) -> Service:
    """Start `module:app` of tests/apps under hypercorn."""
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", app, "--workers", str(workers), "-b", f"127.0.0.1:{port}", *options]
    return Service(command, port, env)

"""A service in a process of its own: started, watched, stopped, always with deadlines."""

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
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")


def wait_for(condition: Callable[[], T], seconds: float = 10.0, what: str = "") -> T:
    """The first true value of a condition, asked every few milliseconds, or AssertionError after the deadline.

    A condition that stumbles over what is not there yet, a key, an attribute of None, a server, counts as untrue.
    """
    deadline = time.monotonic() + seconds
    while True:
        value: T | Exception
        stumbled: Exception | None = None
        try:
            if value := condition():
                return value
        except (AttributeError, LookupError, httpx.TransportError) as error:
            value = stumbled = error
        if time.monotonic() > deadline:
            message = f"not within {seconds} s: {what or condition!r}; last value {value!r}"
            raise AssertionError(message) from stumbled
        time.sleep(0.01)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Service:
    """A process, and what it writes. Use as a context manager; it is killed at the end if it does not stop."""

    def __init__(self, command: Sequence[str], port: int, env: Mapping[str, str] | None = None) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": str(APPS), **(env or {})}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on standard output."""
        return [json.loads(line) for line in list(self.out) if line.startswith("{")]

    @property
    def said(self) -> str:
        """Everything it wrote, for messages of failed tests."""
        return "".join([*self.out, *self.err])

    def ready(self, path: str = "/health/ready", seconds: float = 15.0) -> Service:
        """Wait until it answers 200."""

        def answers() -> bool:
            if self.process.poll() is not None:
                message = f"ended with {self.process.returncode} before it was ready:\n{self.said}"
                raise AssertionError(message)
            try:
                return httpx.get(self.url + path, timeout=1).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers, seconds, f"{path} answers 200; it said:\n{self.said}")
        return self

    def stop(self, sig: signal.Signals = signal.SIGTERM, seconds: float = 15.0) -> int:
        """Send a signal, wait for the end, give back the return code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, sig) if sig is signal.SIGKILL else self.process.send_signal(sig)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            message = f"did not stop within {seconds} s of {sig.name}; it said:\n{self.said}"
            raise AssertionError(message) from None
        for reader in self._readers:
            reader.join(5)
        return code

    @staticmethod
    def _read(stream: Any, into: list[str]) -> None:
        for line in stream:
            into.append(line.decode("utf-8", "replace"))  # noqa: PERF401  read as it comes
        stream.close()


def uvicorn(app: str, *options: str, env: Mapping[str, str] | None = None) -> Service:
    """`tests/apps/<module>.py` under uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(APPS), "--port", str(port), *options]
    return Service(command, port, env)


def gunicorn(app: str, *options: str, workers: int = 2, env: Mapping[str, str] | None = None) -> Service:
    """`tests/apps/<module>.py` under gunicorn with uvicorn's workers."""
    port = free_port()
    kind = "uvicorn.workers.UvicornWorker"
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        app,
        "-k",
        kind,
        "-w",
        str(workers),
        "-b",
        f"127.0.0.1:{port}",
        *options,
    ]
    return Service(command, port, {"PYTHONWARNINGS": "ignore", **(env or {})})


def granian(app: str, *options: str, workers: int = 2, env: Mapping[str, str] | None = None) -> Service:
    """`tests/apps/<module>.py` under granian."""
    port = free_port()
    command = [sys.executable, "-m", "granian", app, "--interface", "asgi", "--workers", str(workers)]
    return Service([*command, "--host", "127.0.0.1", "--port", str(port), *options], port, env)


def hypercorn(app: str, *options: str, workers: int = 2, env: Mapping[str, str] | None = None) -> Service:
    """`tests/apps/<module>.py` under hypercorn."""
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", app, "--workers", str(workers), "-b", f"127.0.0.1:{port}", *options]
    return Service(command, port, env)

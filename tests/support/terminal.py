"""Runs a command whose output is a pseudo-terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from typing import Self

import httpx

from support.process import APPS, free_port, wait_for

_INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_STYLE = re.compile(r"\x1b\[[0-9]*m")


class TerminalProcess:
    """A subprocess with a pseudo-terminal as its standard streams. A context manager that kills it at the end.

    Args:
        command: the command.
        columns: width of the terminal; 0 if it is unknown.
        env: additional environment variables.
        folder: working directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        columns: int,
        env: Mapping[str, str] | None = None,
        folder: str | os.PathLike[str] = APPS,
    ) -> None:
        self._fd, child_fd = os.openpty()
        fcntl.ioctl(child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
        environment |= {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path), **(env or {})}
        self.process = subprocess.Popen(
            command,
            stdin=child_fd,
            stdout=child_fd,
            stderr=child_fd,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        os.close(child_fd)
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(15)
        self._reader.join(15)
        os.close(self._fd)

    @property
    def output(self) -> str:
        """The output so far."""
        return b"".join(self._chunks).decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def rows(self) -> list[str]:
        """The output so far without colours and styles."""
        return _STYLE.sub("", self.output).splitlines()

    def wait(self, seconds: float = 30) -> int:
        """Wait until the process has ended and its output is read; returns its exit code."""
        exit_code = self.process.wait(seconds)
        self._reader.join(seconds)
        return exit_code

    def stop(self, seconds: float = 30) -> int:
        """Send SIGTERM and wait."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def _read(self) -> None:
        try:
            while chunk := os.read(self._fd, 65536):
                self._chunks.append(chunk)
        except OSError:  # Linux raises EIO when the last writer has closed the terminal
            pass


class TerminalService(TerminalProcess):
    """`module:app` under uvicorn in a pseudo-terminal."""

    def __init__(
        self,
        app: str,
        columns: int,
        env: Mapping[str, str] | None = None,
        folder: str | os.PathLike[str] = APPS,
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([sys.executable, "-m", "uvicorn", app, "--port", str(port)], columns, env, folder)

    def wait_until_live(self, seconds: float = 30) -> TerminalService:
        """Wait until liveness answers 200."""

        def is_live() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(self.output)
            return httpx.get(f"{self.url}/health/live", timeout=1).status_code == 200

        wait_for(is_live, seconds, "liveness answers 200")
        return self

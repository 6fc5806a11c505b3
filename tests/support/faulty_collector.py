"""A collector that misbehaves in whatever way it is told to, over real sockets."""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from support.otlp import _KINDS, Received


class Faulty:
    """Listens on one port for as long as it is open; `mode` may be changed at any time.

    Modes: `ok`, `refuse` (not listening), `hang` (accepts, never answers), `garbage`, `cut` (closes in mid-answer),
    `reset`, a number (that status), `429:2` (that status with Retry-After), `slow:10` (answers after so many seconds).
    """

    def __init__(self, mode: str = "ok") -> None:
        self.received = Received()
        self.attempts = 0
        self.mode = "ok"
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._port = 0
        self._listen()
        self.url = f"http://127.0.0.1:{self._port}"
        self.set(mode)

    def __enter__(self) -> Faulty:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def set(self, mode: str) -> None:
        """Behave like this from here on, for connections that are open too."""
        self.mode = mode
        if mode == "refuse":
            self._stop()
        else:
            if self._listener is None:
                self._listen()
            self._hang_up()

    def _hang_up(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._hang_up()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError, IndexError, KeyError), connection:  # a TLS hello is no request
            stream = connection.makefile("rb")
            while line := stream.readline():
                path = line.split()[1].decode()
                headers: dict[str, str] = {}
                while (row := stream.readline()).strip():
                    name, _, value = row.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", 0)))
                self.attempts += 1
                if not self._answer(connection, path, body, headers):
                    break
        self._open.discard(connection)

    def _answer(self, connection: socket.socket, path: str, body: bytes, headers: dict[str, str]) -> bool:
        mode, _, argument = self.mode.partition(":")
        if mode == "hang":
            while self.mode == "hang":
                time.sleep(0.02)
            return False
        if mode == "garbage":
            connection.sendall(b"\x00\xffthis is no HTTP\r\n\r\n")
            return False
        if mode == "cut":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf")
            return False
        if mode == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if mode.isdigit():
            retry = f"retry-after: {argument}\r\n" if argument else ""
            connection.sendall(f"HTTP/1.1 {mode} no\r\n{retry}content-length: 0\r\n\r\n".encode())
            return True
        if mode == "slow":
            until = time.monotonic() + float(argument)
            while time.monotonic() < until and self.mode.startswith("slow"):
                time.sleep(0.02)
        content = self._take(path, body, headers)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content))
        return True

    def _take(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """Keep what arrived; gives back the body of the answer."""
        request: Callable[..., Any] = _KINDS[path][0]
        content = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        self.received.requests.append((path, request.FromString(content)))  # type: ignore[attr-defined]
        return b""

"""An OTLP/HTTP collector that simulates failures over real sockets."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.otlp import MESSAGE_TYPES, ReceivedTelemetry, partial_success_response


class FaultyCollector:
    """Listens on one port until it is closed; the mode can be changed at any time.

    Modes: `ok`, `refuse` (does not listen), `hang` (accepts connections and never responds), `garbage` (responds with
    bytes that are not HTTP), `cut` (closes the connection within the response), `reset` (resets the connection), a number
    (responds with that status), `429:2` (the same with Retry-After), `307@URL` (the same with Location), `partial:2` (accepts
    a request, but rejects two of its items), `slow:10` (responds after that many seconds).

    Args:
        mode: the first mode.
        port: the port; 0 for any.
        certificate: PEM file with the certificate and key of a server that requires TLS.
    """

    def __init__(self, mode: str = "ok", port: int = 0, certificate: Path | None = None) -> None:
        self.received = ReceivedTelemetry()
        self.request_count = 0
        self.mode = "ok"
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._port = port
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._listen()
        self.url = f"https://localhost:{self._port}" if certificate else f"http://127.0.0.1:{self._port}"
        self.set_mode(mode)

    def __enter__(self) -> FaultyCollector:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def set_mode(self, mode: str) -> None:
        """Change the mode, also for open connections."""
        self.mode = mode
        if mode == "refuse":
            self._stop()
        else:
            if self._listener is None:
                self._listen()
            self._close_connections()

    def _close_connections(self) -> None:
        for connection in list(self._connections):
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
        self._close_connections()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError, IndexError, KeyError), connection:  # a TLS handshake is not an HTTP request
            if self._tls is None:
                self._serve_requests(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as stream:
                    self._serve_requests(stream)
        self._connections.discard(connection)

    def _serve_requests(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while line := stream.readline():
            path = line.split()[1].decode()
            headers: dict[str, str] = {}
            while (header := stream.readline()).strip():
                name, _, value = header.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", 0)))
            self.request_count += 1
            if not self._respond(connection, path, body, headers):
                return

    def _respond(self, connection: socket.socket, path: str, body: bytes, headers: dict[str, str]) -> bool:
        status, _, location = self.mode.partition("@")
        mode, _, argument = self.mode.partition(":")
        if location:
            response = f"HTTP/1.1 {status} simulated\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            connection.sendall(response.encode())
            return True
        if mode == "hang":
            while self.mode == "hang":
                time.sleep(0.02)
            return False
        if mode == "garbage":
            connection.sendall(b"\x00\xffthis is not HTTP\r\n\r\n")
            return False
        if mode == "cut":
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf")
            return False
        if mode == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if mode.isdigit():
            retry_after = f"retry-after: {argument}\r\n" if argument else ""
            connection.sendall(f"HTTP/1.1 {mode} simulated\r\n{retry_after}content-length: 0\r\n\r\n".encode())
            return True
        if mode == "slow":
            deadline = time.monotonic() + float(argument)
            while time.monotonic() < deadline and self.mode.startswith("slow"):
                time.sleep(0.02)
        content = self._store(path, body, headers)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content))
        return True

    def _store(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """Store a request and return the body of the response."""
        request_type: Any = MESSAGE_TYPES[path][0]
        content = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        self.received.requests.append((path, request_type.FromString(content)))
        mode, _, rejected = self.mode.partition(":")
        return partial_success_response(path, int(rejected)) if mode == "partial" else b""

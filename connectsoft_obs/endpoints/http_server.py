"""The side listener: the endpoints on a port of their own, answered by a thread even while the work blocks.

Standard library only, because it must answer when nothing else does. On for workers, off for web services unless
OTEL_EXPORTER_PROMETHEUS_PORT or _HOST is set (`side.py`).
"""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from connectsoft_obs.endpoints.messages import EndpointRequest
from connectsoft_obs.endpoints.router import EndpointRouter
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.telemetry import Telemetry

DEFAULT_PORT = 9464


class Listener:
    """Listens from construction until `close()`.

    Args:
        telemetry: whose endpoints.
        host: address to listen on.
        port: port, 0 for any free one; `port` tells which it became.

    Raises:
        OSError: the port is taken, the address is not ours, or there can be no thread for it now.
    """

    def __init__(self, telemetry: Telemetry, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        endpoints = EndpointRouter(telemetry)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                """Answer one question."""
                path, _, query = self.path.partition("?")
                page = endpoints.page(self.command, path)
                if page is None:
                    self.send_error(404)
                    return
                headers = {
                    name.lower().encode("latin-1"): value.encode("latin-1") for name, value in self.headers.items()
                }
                try:
                    answered = page(
                        EndpointRequest(self.command, query.encode("latin-1"), headers, self.client_address[0])
                    )
                except Exception as failure:  # noqa: BLE001  a page of ours that fails is a 500, and counted
                    telemetry.internal_telemetry.record_error("endpoints.listener", failure)
                    self.send_error(500)
                    return
                self.send_response(answered.status)
                for name, value in answered.all_headers():
                    self.send_header(name.decode("latin-1"), value.decode("latin-1"))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answered.body)

            do_HEAD = do_GET
            do_PUT = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Probes are in no log."""

        server = _Server((host, port), Handler)
        thread = threads.start_thread("obs-listener", server.serve_forever)
        if thread is None:
            server.server_close()
            raise OSError("there can be no thread for it now")
        self._server: _Server | None = server
        self.port: int = server.server_port
        self._thread = thread
        register_fork_handler(self)

    def close(self) -> None:
        """Stop listening; again does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self._thread.join(5)

    def after_fork_in_child(self) -> None:
        """In a forked child: let go of the port, which stays with the parent."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, or in that of the listener where there can be none."""
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:
            record_internal_error("threads", error)
            self.process_request_thread(request, client_address)

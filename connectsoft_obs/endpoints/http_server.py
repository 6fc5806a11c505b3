"""HTTP server of the endpoints on a separate port, in threads that respond even while the event loop is blocked.

It uses only the standard library, so it does not depend on the server of the application. Workers always have one; web
services have one if OTEL_EXPORTER_PROMETHEUS_PORT or _HOST is set (`management_listener.py`).
"""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from connectsoft_obs.endpoints.request_response import EndpointRequest, EndpointResponse
from connectsoft_obs.endpoints.router import EndpointRouter
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.process import threads
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.telemetry import Telemetry

DEFAULT_PORT = 9464


class EndpointServer:
    """Serves the endpoints of one Telemetry from construction until `close()`.

    Args:
        telemetry: the Telemetry.
        host: address to listen on.
        port: port to listen on, 0 for any free port. The attribute `port` is the actual port.

    Raises:
        OSError: the port is in use, the address is not local, or no thread can be started.
    """

    def __init__(self, telemetry: Telemetry, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        router = EndpointRouter(telemetry)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                """Answer one request."""
                path, _, query = self.path.partition("?")
                page = router.find_page(self.command, path)
                if page is None:
                    self.send_error(404)
                    return
                headers = {
                    name.lower().encode("latin-1"): value.encode("latin-1") for name, value in self.headers.items()
                }
                response: EndpointResponse | None = None
                with telemetry.internal_telemetry.guard("endpoints.listener"):
                    request = EndpointRequest(
                        self.command, query.encode("latin-1"), headers, self.client_address[0], self.request_version[5:]
                    )
                    response = page(request)
                if response is None:
                    self.send_error(500)
                    return
                self.send_response(response.status)
                for name, value in response.all_headers():
                    self.send_header(name.decode("latin-1"), value.decode("latin-1"))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(response.body)

            do_HEAD = do_GET
            do_PUT = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Do nothing: requests for the endpoints are not logged."""

        server = _Server((host, port), Handler)
        thread = threads.start_thread("obs-listener", server.serve_forever)
        if thread is None:
            server.server_close()
            raise OSError("cannot start a thread")
        self._server: _Server | None = server
        self.port: int = server.server_port
        self._thread = thread
        register_fork_handler(self)

    def close(self) -> None:
        """Stop listening. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self._thread.join(5)

    def after_fork_in_child(self) -> None:
        """Close the inherited socket in a forked child; the parent keeps listening."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a request in a new thread, or in the listening thread if no thread can be started."""
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:
            record_internal_error("threads", error)
            self.process_request_thread(request, client_address)

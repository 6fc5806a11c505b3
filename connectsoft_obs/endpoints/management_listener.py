"""The management port: a separate port for the health, metrics and info endpoints, shared by the processes of a service.

Every process tries to bind the port until it succeeds. When the process that has bound it ends, for any reason, the
kernel releases the port, and another process binds it.
"""

from __future__ import annotations

import os
import threading

from connectsoft_obs.endpoints.http_server import DEFAULT_PORT, EndpointServer
from connectsoft_obs.identity import Platform
from connectsoft_obs.process import threads
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.telemetry import Telemetry

_RETRY_INTERVAL = 0.5
"""Seconds between attempts to bind the port."""

_CONTAINER_PLATFORMS = frozenset({Platform.AKS, Platform.CONTAINER_APPS})
"""Platforms where probes and scrapes come from outside the network namespace, and where only they reach the port."""


class ManagementListener:
    """Listens on the management port until `close()`, and retries while the port is in use. A forked child has none.

    If the port cannot be bound, a warning is logged once, unless a supervisor has started several workers of the service.

    Args:
        telemetry: the Telemetry whose endpoints are served.
        host: address to listen on.
        port: port to listen on.
    """

    def __init__(self, telemetry: Telemetry, host: str, port: int) -> None:
        self._telemetry = telemetry
        self._address = (host, port)
        group = telemetry.metrics.worker_group
        self._has_warned = group is not None and group.supervisor_pid != os.getpid()
        self._closed = threading.Event()
        self._server: EndpointServer | None = None
        self._thread: threading.Thread | None = None
        if not self._try_listen():
            self._thread = threads.start_thread("obs-management-port", self._retry)

    @classmethod
    def for_web(cls, telemetry: Telemetry) -> ManagementListener | None:
        """Create the listener of a web service, or return None if it is not configured.

        It is closed with the Telemetry.
        """
        settings = telemetry.settings
        if telemetry.exporters is None or settings.disabled:
            return None
        if settings.prometheus_host is None and settings.prometheus_port is None:
            return None
        listener = cls(telemetry, settings.prometheus_host or "127.0.0.1", management_port(telemetry.settings))
        telemetry.on_shutdown(listener.close)
        return listener

    @classmethod
    def for_worker(cls, telemetry: Telemetry) -> ManagementListener:
        """Create the listener of a worker process. In a container, it listens on all addresses by default."""
        default_host = "0.0.0.0" if telemetry.identity.platform in _CONTAINER_PLATFORMS else "127.0.0.1"  # noqa: S104
        return cls(telemetry, telemetry.settings.prometheus_host or default_host, management_port(telemetry.settings))

    @property
    def port(self) -> int | None:
        """The port this process listens on, None while another process has bound it."""
        server = self._server
        return None if server is None else server.port

    def close(self) -> None:
        """Stop listening and retrying. Idempotent."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5)
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _try_listen(self) -> bool:
        host, port = self._address
        try:
            self._server = server = EndpointServer(self._telemetry, host, port)
        except OSError as error:  # another worker or another program has bound the port
            if not self._has_warned:
                self._has_warned = True
                message = "cannot listen on the management port, retrying"
                if self._telemetry.metrics.share_with_peers():
                    message = (
                        "another worker has the management port; its metrics include this worker, its probes do not"
                    )
                fields = {"host": host, "port": port, "reason": str(error), "setting": "OTEL_EXPORTER_PROMETHEUS_PORT"}
                self._telemetry.log(WARNING, message, fields)
            return False
        self._telemetry.log(INFO, "listening on the management port", {"host": host, "port": server.port})
        return True

    def _retry(self) -> None:
        while not self._closed.wait(_RETRY_INTERVAL) and not self._try_listen():
            pass


def management_port(settings: Settings) -> int:
    """The port of a worker's endpoints; 0 for a free port."""
    return DEFAULT_PORT if settings.prometheus_port is None else settings.prometheus_port

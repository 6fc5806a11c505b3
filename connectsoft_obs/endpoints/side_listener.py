"""The side listener of a process: one port, whichever of several processes has it.

The port is its own lock. Every process asks for it until it gets it; when the one that has it ends, however it ends, the
kernel gives it to the next.
"""

from __future__ import annotations

import threading

from connectsoft_obs.endpoints.http_server import DEFAULT_PORT, Listener
from connectsoft_obs.identity import Platform
from connectsoft_obs.process import threads
from connectsoft_obs.signals.logs.levels import INFO, WARNING
from connectsoft_obs.telemetry import Telemetry

_AGAIN = 0.5
_OPEN = frozenset({Platform.AKS, Platform.CONTAINER_APPS})
"""Where probers and scrapers come from outside the process's own network namespace, and nobody else does."""


class SideListener:
    """Listens, or waits for its turn to, until `close()`. A forked child has none of its own.

    A port that cannot be had is said once, unless other workers of this service share it, and is asked for again.

    Args:
        telemetry: whose endpoints.
        host: address to listen on.
        port: port.
    """

    def __init__(self, telemetry: Telemetry, host: str, port: int) -> None:
        self._telemetry = telemetry
        self._place = (host, port)
        self._said = telemetry.metrics.workers is not None
        self._closed = threading.Event()
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None
        if not self._listen():
            self._thread = threads.start_thread("obs-side-listener", self._queue)

    @classmethod
    def for_web(cls, telemetry: Telemetry) -> SideListener | None:
        """The side listener that a web service's settings ask for; None when they do not. Closed with the Telemetry."""
        settings = telemetry.settings
        if telemetry.exports is None or settings.disabled:
            return None
        if settings.prometheus_host is None and settings.prometheus_port is None:
            return None
        made = cls(telemetry, settings.prometheus_host or "127.0.0.1", _port(telemetry))
        telemetry.on_shutdown(made.close)
        return made

    @classmethod
    def for_worker(cls, telemetry: Telemetry) -> SideListener:
        """The side listener of a process that has no other port; where a container is, it listens on all addresses."""
        everywhere = telemetry.identity.platform in _OPEN
        host = telemetry.settings.prometheus_host or ("0.0.0.0" if everywhere else "127.0.0.1")  # noqa: S104
        return cls(telemetry, host, _port(telemetry))

    @property
    def port(self) -> int | None:
        """The port this process listens on; None while another one has it."""
        listener = self._listener
        return None if listener is None else listener.port

    def close(self) -> None:
        """Stop listening, or waiting to; again does nothing."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _listen(self) -> bool:
        facts = {"host": self._place[0], "port": self._place[1]}
        try:
            self._listener = listener = Listener(self._telemetry, *self._place)
        except OSError as error:  # another worker has it, or somebody else
            if not self._said:
                self._said = True
                message = "the side listener cannot have its port; it is asked for again until it can"
                self._telemetry.log(WARNING, message, {**facts, "reason": str(error)})
            return False
        self._telemetry.log(INFO, "the endpoints are on a port of their own", {**facts, "port": listener.port})
        return True

    def _queue(self) -> None:
        while not self._closed.wait(_AGAIN) and not self._listen():
            pass


def _port(telemetry: Telemetry) -> int:
    port = telemetry.settings.prometheus_port
    return DEFAULT_PORT if port is None else port

"""A process that works and answers: endpoints on a port, health checks, and a flush at the end."""

from __future__ import annotations

import os
import weakref

from connectsoft_obs.endpoints import Side
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import Signal
from connectsoft_obs.work.expected import expected


class Serving:
    """Serves for one Telemetry from `begin()` to `end()`. What stops the process is somebody else's business.

    Methods may be called from any thread; doing one again changes nothing.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._side: Side | None = None

    @property
    def port(self) -> int | None:
        """The port that the endpoints are on; None while another process of this machine has it."""
        return None if self._side is None else self._side.port

    def share(self) -> None:
        """Before the first fork: what the processes that this one forks measure is added to its own numbers."""
        telemetry = self.telemetry
        if telemetry.exports is not None:  # a test shares nothing
            telemetry.metrics.share(telemetry.identity.service, os.getpid(), telemetry.settings.metrics_dir)

    def begin(self) -> None:
        """Lines and exports may use threads from here on; the endpoints answer, the checks run."""
        self.telemetry.serve()
        _begun.add(self.telemetry)
        self.telemetry.health.start()
        if self._side is None:
            self._side = Side.of_worker(self.telemetry)

    def flush(self) -> None:
        """Write and send what waits, within `shutdown_timeout`."""
        state = expected(self.telemetry).state
        if state is not None:
            state.flush()
        self.telemetry.flush(self.telemetry.settings.shutdown_timeout)

    def end(self) -> None:
        """Readiness turns red, what waits is sent, and then nothing answers any more."""
        self.telemetry.health.drain()
        self.flush()
        self.telemetry.health.stop()
        side, self._side = self._side, None
        if side is not None:
            side.close()


def flush_child(telemetry: Telemetry) -> None:
    """Write and send the lines and spans of a child process that lives for one task.

    Its metrics are not sent: each such process would be a resource of its own, and its share counts with its parent's.
    """
    seconds = telemetry.settings.shutdown_timeout
    telemetry.output.flush(seconds)
    for line in telemetry.pipelines():
        if line.signal is not Signal.METRICS:
            line.flush(seconds)


_begun: weakref.WeakSet[Telemetry] = weakref.WeakSet()


def adopt_loop(telemetry: Telemetry) -> None:
    """Where a worker was begun outside any event loop, and now work runs on one: the checks belong on it."""
    if telemetry in _begun:
        telemetry.health.start()

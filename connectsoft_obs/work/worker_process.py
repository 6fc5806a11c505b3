"""The `worker()` context manager: endpoints, event loop and shutdown of a worker process."""

from __future__ import annotations

import os
import weakref
from types import TracebackType
from typing import Any

from connectsoft_obs.endpoints import SideListener
from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.vocabulary import Signal
from connectsoft_obs.work.schedule_metrics import expected
from connectsoft_obs.work.shutdown import GracefulShutdown


class WorkerProcess:
    """Serves for one Telemetry from `begin()` to `end()`. What stops the process is somebody else's business.

    Methods may be called from any thread; doing one again changes nothing.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self._side: SideListener | None = None

    @property
    def port(self) -> int | None:
        """The port that the endpoints are on; None while another process of this machine has it."""
        return None if self._side is None else self._side.port

    def share(self) -> None:
        """Before the first fork: what the processes that this one forks measure is added to its own numbers."""
        telemetry = self.telemetry
        if telemetry.exports is not None:  # a test shares nothing
            telemetry.metrics.join_workers(
                telemetry.identity.service, os.getpid(), telemetry.settings.metrics_multiprocess_dir
            )

    def begin(self) -> None:
        """Lines and exports may use threads from here on; the endpoints answer, the checks run."""
        self.telemetry.serve()
        _begun.add(self.telemetry)
        self.telemetry.health.start()
        if self._side is None:
            self._side = SideListener.for_worker(self.telemetry)

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


def use_running_loop(telemetry: Telemetry) -> None:
    """Where a worker was begun outside any event loop, and now work runs on one: the checks belong on it."""
    if telemetry in _begun:
        telemetry.health.start()


def worker(
    *,
    service: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    environment: str | None = None,
    telemetry: Telemetry | None = None,
    **settings: Any,
) -> Worker:
    """Make this process a worker for as long as the block lasts: `with obs.worker(service="audit-ingest"): ...`.

    Sets the process up, answers all endpoints on OTEL_EXPORTER_PROMETHEUS_PORT (9464) from a thread, so also while the
    work blocks, and takes SIGTERM: readiness turns red, what runs is waited for up to `drain_timeout`, what is waiting
    is flushed, and the process exits with 0. A loop that asks `draining` ends in its own way; one that does not is
    interrupted between two runs.

    `with` in sync code, and around `asyncio.run(...)`; `async with` inside it, so that async health checks run on the
    application's own event loop.

    Args:
        service: name of the service.
        namespace: family of services it belongs to.
        version: its version.
        environment: development, test, staging, production, or your own word.
        telemetry: the Telemetry to use instead of the process's own.
        settings: any other field of `Settings`.

    Raises:
        ConfigurationError: on entering, a value that cannot work.
    """
    identity = {"service": service, "namespace": namespace, "version": version, "environment": environment}
    return Worker(telemetry, {**identity, **settings})


class Worker:
    """One worker, as a context manager in sync and async code. Its methods may be called from any thread."""

    def __init__(self, telemetry: Telemetry | None, arguments: dict[str, Any]) -> None:
        self._given = telemetry
        self._arguments = arguments
        self._serving: WorkerProcess | None = None
        self._stopping: GracefulShutdown | None = None

    @property
    def telemetry(self) -> Telemetry:
        """What it reports with; RuntimeError before it is entered."""
        return self._entered().telemetry

    @property
    def port(self) -> int | None:
        """The port that its endpoints are on; None while another worker of this machine has it."""
        return self._entered().port

    @property
    def draining(self) -> bool:
        """Whether no new work should be begun."""
        return self.telemetry.health.draining

    def drain(self) -> None:
        """Begin to stop: readiness turns red; the program goes on until it ends."""
        self.telemetry.health.drain()

    def __enter__(self) -> Worker:
        """Begin."""
        serving = self._serving = WorkerProcess(self._given or resolve(**self._arguments))
        stopping = self._stopping = GracefulShutdown(serving.telemetry, serving.flush)
        stopping.begin()  # first: whoever sees readiness turn green may send SIGTERM at once
        try:
            serving.begin()
        except BaseException:
            stopping.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End: wait for what runs where a signal said so, write and send what waits, stop listening."""
        serving, stopping = self._entered(), self._stopping
        assert stopping is not None
        serving.telemetry.health.drain()
        stopping.wait()
        stopping.end()
        serving.end()
        if stopping.interrupted and error is not None and _only_interrupts(error):
            raise SystemExit(0)

    async def __aenter__(self) -> Worker:
        """Begin, on the application's event loop."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        self.__exit__(kind, error, traceback)

    def _entered(self) -> WorkerProcess:
        if self._serving is None:
            message = "the worker has not been entered"
            raise RuntimeError(message)
        return self._serving


def _only_interrupts(error: BaseException) -> bool:
    """Whether an exception is what our own interruption became on its way through an event loop."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)

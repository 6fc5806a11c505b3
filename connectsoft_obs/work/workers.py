"""A worker process: set-up, endpoints on a port of their own, and an orderly end."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.work.serving import Serving
from connectsoft_obs.work.stopping import Stopping


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
        self._serving: Serving | None = None
        self._stopping: Stopping | None = None

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
        serving = self._serving = Serving(self._given or resolve(**self._arguments))
        stopping = self._stopping = Stopping(serving.telemetry, serving.flush)
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

    def _entered(self) -> Serving:
        if self._serving is None:
            message = "the worker has not been entered"
            raise RuntimeError(message)
        return self._serving


def _only_interrupts(error: BaseException) -> bool:
    """Whether an exception is what our own interruption became on its way through an event loop."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)

"""The `worker()` context manager: endpoints, event loop and shutdown of a worker process."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Any, Unpack

from connectsoft_obs.endpoints import ManagementListener, management_port
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.process.process_info import supervisor_pid
from connectsoft_obs.settings import SettingsArguments
from connectsoft_obs.telemetry import Telemetry, resolve
from connectsoft_obs.vocabulary import Signal
from connectsoft_obs.work.schedule_metrics import schedule_metrics_of
from connectsoft_obs.work.shutdown import GracefulShutdown

PEER_INTERVAL = 1.0
"""Seconds between searches for other workers that use the same port."""


class WorkerProcess:
    """One worker of this process, from `start()` to `stop()`; does not handle signals.

    The workers of one Telemetry share its endpoints, health checks and exporters: the first one starts them, the last one
    stops them. A worker that starts inside a web service leaves the health of the service as it is.

    Thread-safe and idempotent.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.is_draining: bool = False
        self._group = _groups.get(telemetry) or _groups.setdefault(telemetry, _WorkerGroup())

    @property
    def port(self) -> int | None:
        """Port of the endpoints; None while another process on this machine uses it."""
        listener = self._group.management_listener
        return None if listener is None else listener.port

    def join_children(self) -> None:
        """Aggregate metrics of child processes with those of this process; call before the first fork."""
        telemetry = self.telemetry
        if telemetry.exporters is not None:  # not in tests
            directory = telemetry.settings.metrics_multiprocess_dir
            port = management_port(telemetry.settings)
            telemetry.metrics.join_workers(telemetry.identity.service, os.getpid(), directory, port)

    def start(self) -> None:
        """Start exporters, health checks and endpoints, and add metrics of child processes to those of this process."""
        group, telemetry = self._group, self.telemetry
        if telemetry.exporters is not None and telemetry.metrics.worker_group is None:
            directory, port = telemetry.settings.metrics_multiprocess_dir, management_port(telemetry.settings)
            supervisor = supervisor_pid()
            # `serve()` would share metrics with the workers of this supervisor only.
            if supervisor is not None and port:
                telemetry.metrics.join_workers(telemetry.identity.service, supervisor, directory, port)
            else:
                telemetry.metrics.accept_children(telemetry.identity.service, directory, port)
        telemetry.serve()
        _started.add(telemetry)
        with group.lock:
            self.is_draining = False
            if not group.running:
                group.owns_health = not telemetry.health.running
            telemetry.health.start()
            group.running.add(self)
            if group.management_listener is None:
                group.management_listener = ManagementListener.for_worker(telemetry)
                self._share_with_peers()

    def _share_with_peers(self) -> None:
        """Share metrics with workers of other processes that use the same port, as soon as there are any."""
        if self.telemetry.exporters is not None and not self.telemetry.metrics.share_with_peers():
            self.telemetry.health.run_later(PEER_INTERVAL, self._share_with_peers)

    def drain(self) -> None:
        """Fail readiness, unless another worker of this process still works."""
        group = self._group
        with group.lock:
            self.is_draining = True
            if group.owns_health and all(worker.is_draining for worker in group.running):
                self.telemetry.health.drain()

    def flush(self) -> None:
        """Write and export everything that is queued, within `shutdown_timeout`."""
        state = schedule_metrics_of(self.telemetry).state_file
        if state is not None:
            state.flush()
        self.telemetry.flush(self.telemetry.settings.shutdown_timeout)

    def stop(self) -> None:
        """Fail readiness, flush, and stop the endpoints, unless another worker of this process still works."""
        self.drain()
        self.telemetry.metrics.share_with_peers()  # the next worker of the port adds the values of this one
        self.flush()
        group, listener = self._group, None
        with group.lock:
            group.running.discard(self)
            if not group.running:
                if group.owns_health:
                    self.telemetry.health.stop()
                listener, group.management_listener = group.management_listener, None
        if listener is not None:
            listener.close()


class _WorkerGroup:
    """The workers of one Telemetry that run in this process, and what they share."""

    def __init__(self) -> None:
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """Initialise without workers, also in a forked child: those of the parent do not run there."""
        self.lock = threading.RLock()
        self.running: set[WorkerProcess] = set()
        self.owns_health = True
        self.management_listener: ManagementListener | None = None


_groups: weakref.WeakKeyDictionary[Telemetry, _WorkerGroup] = weakref.WeakKeyDictionary()


def flush_child(telemetry: Telemetry) -> None:
    """Write and export log lines and spans of a child process that runs one task.

    Its metrics are not exported: they are aggregated with those of the parent.
    """
    seconds = telemetry.settings.shutdown_timeout
    telemetry.output.flush(seconds)
    for processor in telemetry.export_processors():
        if processor.signal is not Signal.METRICS:
            processor.flush(seconds)


_started: weakref.WeakSet[Telemetry] = weakref.WeakSet()


def is_worker_draining(telemetry: Telemetry) -> bool:
    """Whether the workers of this process drain, so that no new run should start."""
    group = _groups.get(telemetry)
    return group is not None and bool(group.running) and group.owns_health and telemetry.health.draining


def use_running_loop(telemetry: Telemetry) -> None:
    """Run health checks on the current event loop, if the worker was started outside of one."""
    if telemetry in _started:
        telemetry.health.start()


def worker(
    *,
    service: str | None = None,
    namespace: str | None = None,
    version: str | None = None,
    environment: str | None = None,
    telemetry: Telemetry | None = None,
    **settings: Unpack[SettingsArguments],
) -> Worker:
    """Run this process as a worker within the block: `with obs.worker(service="audit-ingest"): ...`.

    Configures the process, serves all endpoints on OTEL_EXPORTER_PROMETHEUS_PORT (9464) from a thread, also while the
    work blocks, and handles SIGTERM: readiness fails, active runs can finish within `drain_timeout`, telemetry is
    flushed, and the process exits with 0. A loop that checks `draining` ends by itself; another one is interrupted
    between two runs.

    Use `with` in sync code and around `asyncio.run(...)`; use `async with` inside it, so that async health checks run on
    the event loop of the application.

    Args:
        service: name of the service.
        namespace: namespace of the service.
        version: version of the service.
        environment: development, test, staging, production or another name.
        telemetry: a Telemetry other than that of the process.
        settings: other fields of `Settings`.

    Raises:
        ConfigurationError: an argument is invalid; raised on entering the block.
    """
    identity = {"service": service, "namespace": namespace, "version": version, "environment": environment}
    return Worker(telemetry, {**identity, **settings})


class Worker:
    """A worker; a context manager for sync and async code. Thread-safe."""

    def __init__(self, telemetry: Telemetry | None, arguments: dict[str, Any]) -> None:
        self._telemetry = telemetry
        self._arguments = arguments
        self._process: WorkerProcess | None = None
        self._shutdown: GracefulShutdown | None = None

    @property
    def telemetry(self) -> Telemetry:
        """The Telemetry of the worker; RuntimeError before the block is entered."""
        return self._require_process().telemetry

    @property
    def port(self) -> int | None:
        """Port of the endpoints; None while another worker on this machine uses it."""
        return self._require_process().port

    @property
    def draining(self) -> bool:
        """Whether the worker drains and should start no new work."""
        return self._require_process().is_draining or self.telemetry.health.draining

    def drain(self) -> None:
        """Begin to drain: readiness fails, unless another worker of this process still works; the program continues."""
        self._require_process().drain()

    def __enter__(self) -> Worker:
        """Start the worker."""
        process = self._process = WorkerProcess(self._telemetry or resolve(**self._arguments))
        shutdown = self._shutdown = GracefulShutdown(process.telemetry, process.flush)
        shutdown.install()  # first: SIGTERM can arrive as soon as readiness passes
        try:
            process.start()
        except BaseException:
            shutdown.uninstall()
            raise
        if shutdown.deadline is not None:  # SIGTERM has arrived before `start()` reset the state of health
            process.telemetry.health.drain()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Stop the worker: after a signal wait for active runs, flush, and stop the endpoints."""
        process, shutdown = self._require_process(), self._shutdown
        assert shutdown is not None
        shutdown.wait()
        shutdown.uninstall()
        process.stop()
        if shutdown.interrupted and error is not None and _only_interrupts(error):
            raise SystemExit(0)

    async def __aenter__(self) -> Worker:
        """Start the worker, on the event loop of the application."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the worker."""
        self.__exit__(kind, error, traceback)

    def _require_process(self) -> WorkerProcess:
        if self._process is None:
            message = "the worker is not running; use it inside `with obs.worker(...)`"
            raise RuntimeError(message)
        return self._process


def _only_interrupts(error: BaseException) -> bool:
    """Whether an exception results only from the interruption by this package, also through an event loop."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)

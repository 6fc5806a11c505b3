"""Start and end of a service: passes the ASGI lifespan protocol through and starts and stops the Telemetry with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from typing import Any, TypeVar

from connectsoft_obs.asgi.types import App, Message, Receive, Scope, Send
from connectsoft_obs.context import carry_context
from connectsoft_obs.endpoints import ManagementListener
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health import AsyncEvent, validate_disabled_checks
from connectsoft_obs.process import threads
from connectsoft_obs.process.uvicorn_internals import call_after_serving
from connectsoft_obs.signals.logs import watch_loop
from connectsoft_obs.signals.logs.levels import CRITICAL
from connectsoft_obs.telemetry import Telemetry, current_log_pipeline, install_log_hooks

T = TypeVar("T")

_FLUSH_MARGIN = 1.0
"""Seconds that are added to `shutdown_timeout`. The flush itself keeps within `shutdown_timeout`."""


class Lifespan:
    """One lifespan: starts the health checks after the application's startup and flushes after its shutdown.

    Args:
        telemetry: the Telemetry of the service.
        current_telemetry: returns the Telemetry after the application's startup, which may have configured another one.
        on_stack_built: called after the application's startup, when its middleware stack exists.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        current_telemetry: Callable[[], Telemetry | None],
        on_stack_built: Callable[[], object],
    ) -> None:
        self._telemetry = telemetry
        self._current_telemetry = current_telemetry
        self._on_stack_built = on_stack_built

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application's lifespan. Its exceptions are raised unchanged."""
        self._run_guarded(install_loop_hooks, self._telemetry)
        has_failed = False

        async def observe_receive() -> Message:
            if has_failed:  # the server sends nothing more; the application closes what it has opened
                return {"type": "lifespan.shutdown"}
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                # The application closes its connection pools from here on, and checks of them would fail.
                self._run_guarded(self._telemetry.health.close, "the server stops")
            return message

        async def observe_send(message: Message) -> None:
            nonlocal has_failed
            if (
                has_failed
            ):  # no message may follow the failed startup, such as one after the cancellation of the application
                return
            kind = message["type"]
            if kind == "lifespan.startup.complete":
                self._telemetry = self._run_guarded(self._current_telemetry) or self._telemetry
                error = self._run_guarded(
                    validate_disabled_checks, self._telemetry.settings, self._telemetry.health.registry
                )
                if error is not None:
                    has_failed = True
                    await send(
                        {
                            "type": "lifespan.startup.failed",
                            "message": f"invalid configuration of connectsoft_obs: {error}",
                        }
                    )
                    return
                self._run_guarded(self._on_stack_built)
                self._run_guarded(on_startup_complete, self._telemetry)
            elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                self._run_guarded(self._telemetry.health.stop)
                await _flush(self._telemetry)
            await send(message)

        await app(scope, observe_receive, observe_send)

    def _run_guarded(self, function: Callable[..., T | None], *arguments: Any) -> T | None:
        """Call a function and return its result. An internal error is recorded and None returned."""
        with self._telemetry.internal_telemetry.guard("asgi.lifespan"):
            return function(*arguments)
        return None


async def _flush(telemetry: Telemetry) -> None:
    """Export pending telemetry before the server may end the process; uvicorn ends it without exit handlers.

    This runs in a new thread, because the application may have left calls that block in every thread of the event
    loop's executor.
    """
    guard = telemetry.internal_telemetry.guard

    def flush(done: AsyncEvent) -> None:
        with guard("asgi.lifespan"):
            telemetry.stop_serving()
        done.set()

    with guard("asgi.lifespan"):
        done = AsyncEvent()
        if threads.start_thread("obs-flush", flush, done) is None:
            flush(done)
        async with _timeout(telemetry.settings.shutdown_timeout + _FLUSH_MARGIN):
            await done


def _timeout(seconds: float) -> AbstractAsyncContextManager[object]:
    """Return a timeout if asyncio is running, and a context manager without effect on trio.

    With the timeout, a flush that does not return cannot block the shutdown of the server.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return nullcontext()
    return asyncio.timeout(seconds)


def install_loop_hooks(telemetry: Telemetry) -> None:
    """Install the exception hook and the executor of the event loop.

    Called before the application's startup, so that what the application sets replaces these.
    """
    with suppress(RuntimeError):  # no asyncio loop
        loop = asyncio.get_running_loop()
        watch_loop(loop, current_log_pipeline)
        if telemetry.settings.propagate_context_to_threads:
            carry_context(loop)


def on_startup_complete(telemetry: Telemetry) -> None:
    """Start serving: log hooks, exports, management port, health checks. Called on the application's event loop."""
    install_log_hooks(telemetry)
    if not telemetry.serving:
        telemetry.serve()
        ManagementListener.for_web(telemetry)
    health = telemetry.health
    health.start()
    if (
        not health.install_sigterm_delay()
        and health.drain_delay
        and threading.current_thread() is threading.main_thread()
    ):
        telemetry.internal_telemetry.warn_once(
            ("drain", "sigterm"),
            "the workers of this server do not receive SIGTERM, so drain_delay has no effect; delay the stop in the "
            "platform instead (Kubernetes: lifecycle.preStop.sleep.seconds) and set CONNECTSOFT_OBS_DRAIN_DELAY=0",
            {"drain_delay": health.drain_delay},
        )


def start_without_lifespan(telemetry: Telemetry) -> None:
    """Start serving at the first request, for a server or an application without the lifespan protocol.

    The telemetry is exported when uvicorn has stopped serving; other servers end the process with exit handlers.
    """
    if (
        not telemetry.health.running
        and (error := validate_disabled_checks(telemetry.settings, telemetry.health.registry)) is not None
    ):
        telemetry.log(CRITICAL, f"invalid configuration of connectsoft_obs: {error}")
    install_loop_hooks(telemetry)
    had_lifespan = telemetry.serving
    on_startup_complete(telemetry)
    if not had_lifespan:  # the lifespan exports itself; a second export could exceed the shutdown budget
        call_after_serving(partial(_stop_without_lifespan, telemetry))


async def _stop_without_lifespan(telemetry: Telemetry) -> None:
    with telemetry.internal_telemetry.guard("asgi.lifespan"):
        telemetry.health.stop()
    await _flush(telemetry)


async def fail_startup(error: ConfigurationError, receive: Receive, send: Send) -> None:
    """Report a failed startup to the server.

    Raises:
        ConfigurationError: always, as a failed startup of the application itself does.
    """
    while (await receive())["type"] != "lifespan.startup":
        pass
    await send({"type": "lifespan.startup.failed", "message": f"invalid configuration of connectsoft_obs: {error}"})
    raise error.with_traceback(None)  # granian logs the traceback, which does not help to correct a setting

"""Start and end of a process as the server tells them: ASGI's lifespan protocol, passed through and listened to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, TypeVar

from connectsoft_obs.asgi.types import App, Message, Receive, Scope, Send
from connectsoft_obs.context import carry_context
from connectsoft_obs.endpoints import SideListener
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health import AsyncEvent, validate_disabled_checks
from connectsoft_obs.process import threads
from connectsoft_obs.signals.logs import watch_loop
from connectsoft_obs.signals.logs.levels import CRITICAL
from connectsoft_obs.telemetry import Telemetry, current_log_pipeline, install_log_hooks

T = TypeVar("T")

_LEEWAY = 1.0
"""Seconds beyond `shutdown_timeout`, which the flush keeps by itself."""


class Lifespan:
    """One lifespan: starts health when the application has started, flushes when it has stopped.

    Args:
        telemetry: whose.
        built: called when the application has started and its middleware stack is therefore built.
    """

    def __init__(self, telemetry: Telemetry, built: Callable[[], object]) -> None:
        self._telemetry = telemetry
        self._built = built

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application's lifespan; whatever it raises is raised."""
        self._guarded(install_loop_hooks, self._telemetry)

        async def listened() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                # The application closes its pools now: checks of them would fail, and say so.
                self._guarded(self._telemetry.health.close, "the server stops")
            return message

        async def told(message: Message) -> None:
            kind = message["type"]
            if kind == "lifespan.startup.complete":
                error = self._guarded(
                    validate_disabled_checks, self._telemetry.settings, self._telemetry.health.declared
                )
                if error is not None:
                    await send({"type": "lifespan.startup.failed", "message": f"connectsoft_obs: {error}"})
                    return
                self._guarded(self._built)
                self._guarded(on_startup_complete, self._telemetry)
            elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                self._guarded(self._telemetry.health.stop)
                await self._flushed()
            await send(message)

        await app(scope, listened, told)

    def _guarded(self, step: Callable[..., T], *arguments: Any) -> T | None:
        """Take a step of ours; one that fails keeps no application from starting or stopping."""
        try:
            return step(*arguments)
        except Exception as failure:  # noqa: BLE001  ours
            self._telemetry.internal_telemetry.record_error("asgi.lifespan", failure)
            return None

    async def _flushed(self) -> None:
        """Send what is left before the server may end the process; uvicorn ends it by a signal, past any exit handler.

        In a thread of its own: every thread of the event loop's executor may hang in what the application left there.
        """

        def flush(done: AsyncEvent) -> None:
            self._guarded(self._telemetry.stop_serving)
            done.set()

        try:
            done = AsyncEvent()
            if threads.start_thread("obs-flush", flush, done) is None:
                flush(done)
            async with _at_most(self._telemetry.settings.shutdown_timeout + _LEEWAY):
                await done
        except Exception as failure:  # noqa: BLE001  ours; the server stops
            self._telemetry.internal_telemetry.record_error("asgi.lifespan", failure)


def _at_most(seconds: float) -> AbstractAsyncContextManager[object]:
    """A limit for what should have ended by itself, on asyncio; a thread that breaks must not hold up a shutdown."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return nullcontext()
    return asyncio.timeout(seconds)


def install_loop_hooks(telemetry: Telemetry) -> None:
    """Before the application's own start-up, so that what it sets there stays: see to the event loop."""
    with suppress(RuntimeError):  # no asyncio loop
        loop = asyncio.get_running_loop()
        watch_loop(loop, current_log_pipeline)
        if telemetry.settings.propagate_context_to_threads:
            carry_context(loop)


def on_startup_complete(telemetry: Telemetry) -> None:
    """The application serves from now on; called on its event loop."""
    install_log_hooks(telemetry)
    if not telemetry.serving:
        telemetry.serve()
        SideListener.for_web(telemetry)
    health = telemetry.health
    health.start()
    if (
        not health.install_sigterm_delay()
        and health.drain_delay
        and threading.current_thread() is threading.main_thread()
    ):
        telemetry.internal_telemetry.warn_once(
            ("drain", "sigterm"),
            f"this server's workers are not told of SIGTERM, so the drain_delay of {health.drain_delay:g} s cannot be "
            "kept; let the platform wait instead (Kubernetes: lifecycle.preStop.sleep.seconds), and set "
            "CONNECTSOFT_OBS_DRAIN_DELAY=0",
            {"drain_delay": health.drain_delay},
        )


def start_without_lifespan(telemetry: Telemetry) -> None:
    """The first request has come and no lifespan before it."""
    if (
        not telemetry.health.running
        and (error := validate_disabled_checks(telemetry.settings, telemetry.health.declared)) is not None
    ):
        telemetry.log(CRITICAL, f"connectsoft_obs: {error}")
    install_loop_hooks(telemetry)
    on_startup_complete(telemetry)


async def fail_startup(error: ConfigurationError, receive: Receive, send: Send) -> None:
    """Tell the server that the service cannot start, and why; then raise it, as an application's own failure would."""
    while (await receive())["type"] != "lifespan.startup":
        pass
    await send({"type": "lifespan.startup.failed", "message": f"connectsoft_obs: {error}"})
    raise error

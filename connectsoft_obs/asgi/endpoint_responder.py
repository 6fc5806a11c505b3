"""Serves the health, metrics and info endpoints over ASGI."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from connectsoft_obs.asgi.types import Scope, Send
from connectsoft_obs.endpoints import EndpointRequest, EndpointRouter
from connectsoft_obs.endpoints.messages import FAILED, EndpointResponse
from connectsoft_obs.endpoints.router import Page
from connectsoft_obs.process import threads
from connectsoft_obs.signals.logs.levels import WARNING
from connectsoft_obs.telemetry import Telemetry

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread that ends with it, and wait for its result; under asyncio and trio alike.

    Where there can be no thread it is called here. Not in the loop's default pool: the application may have filled that with calls that wait for something.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None:
            return function()
        result: T = await trio.to_thread.run_sync(function, limiter=trio.CapacityLimiter(1))
        return result
    done: asyncio.Future[T] = loop.create_future()
    if threads.start_thread("obs-endpoint", _call, function, loop, done) is None:
        return function()
    return await done


def _call(function: Callable[[], T], loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]) -> None:
    settle: Callable[[], None]
    try:
        settle = partial(done.set_result, function())
    except BaseException as error:  # noqa: BLE001  raised again where it is waited for
        settle = partial(done.set_exception, error)

    def tell() -> None:
        if not done.cancelled():
            settle()

    with suppress(RuntimeError):  # the loop was closed meanwhile; nobody waits
        loop.call_soon_threadsafe(tell)


class EndpointResponder:
    """Answers probes and scrapes of one Telemetry."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._endpoints = EndpointRouter(telemetry)
        self.paths: dict[str, Page] = dict(self._endpoints.paths)
        """What is ours, if the application is not mounted below another path; `below` is how the rest begins."""
        self.below: tuple[str, ...] = self._endpoints.below

    def yield_paths_to_app(self, application: Any) -> None:
        """Leave to the application what it routes itself, except the paths that probers depend on."""
        own = set(_literal_paths(getattr(application, "routes", ()), ""))
        for path in sorted(self.paths.keys() & own):
            if path in self._endpoints.fixed:
                continue
            del self.paths[path]
            setting = self._endpoints.settings[path]
            self._telemetry.log(
                WARNING,
                f"the application serves {path} itself and keeps it",
                {"path": path, "setting": f"CONNECTSOFT_OBS_{setting.upper()}"},
            )

    def page(self, scope: Scope) -> Page | None:
        """The page a request asks for, or None when it is the application's."""
        path = scope["path"]
        if root := scope.get("root_path"):
            path = path.removeprefix(root)
        page = self.paths.get(path)
        if page is not None:
            return page if scope["method"] in ("GET", "HEAD") else None
        return self._endpoints.page_below(scope["method"], path) if path.startswith(self.below) else None

    async def send(self, page: Page, scope: Scope, send: Send) -> None:
        """Answer a request."""
        try:
            self._telemetry.health.start()  # without a lifespan the event loop that checks belong to may be a new one
        except Exception as failure:  # noqa: BLE001  ours; what is known is answered
            self._telemetry.internal_telemetry.record_error("health.start", failure)
        client = scope.get("client")
        asked = EndpointRequest(
            scope["method"],
            scope.get("query_string", b""),
            dict(scope["headers"]),
            client[0] if client else None,
        )
        answered = await self._in_thread(page, asked) if page in self._endpoints.slow else self._asked(page, asked)
        await send({"type": "http.response.start", "status": answered.status, "headers": answered.all_headers()})
        body = b"" if asked.method == "HEAD" else answered.body
        await send({"type": "http.response.body", "body": body})

    async def _in_thread(self, page: Page, asked: EndpointRequest) -> EndpointResponse:
        """Ask for a page off the event loop, in a thread of ours: the application's own may all be waiting."""
        return await run_in_thread(lambda: self._asked(page, asked))

    def _asked(self, page: Page, asked: EndpointRequest) -> EndpointResponse:
        try:
            return page(asked)
        except Exception as failure:  # noqa: BLE001  a page of ours that fails is a 500, and counted
            self._telemetry.internal_telemetry.record_error("endpoints.page", failure)
            return FAILED


def _literal_paths(routes: Any, prefix: str, depth: int = 0) -> Iterator[str]:
    """Every path without parameters that a route table names, mounts included; a catch-all names none."""
    for route in routes or ():
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:
            for context in contexts():
                yield prefix + str(getattr(context, "path_format", ""))
            continue
        path = str(getattr(route, "path", ""))
        yield prefix + path
        if depth < 20 and getattr(route, "routes", None):
            yield from _literal_paths(route.routes, prefix + path, depth + 1)

"""Serves the health, metrics and info endpoints over ASGI."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from connectsoft_obs.asgi.route_template import list_route_paths, path_pattern
from connectsoft_obs.asgi.types import Scope, Send
from connectsoft_obs.endpoints import EndpointRequest, EndpointRouter
from connectsoft_obs.endpoints.request_response import INTERNAL_SERVER_ERROR, UNIX_SOCKET, EndpointResponse
from connectsoft_obs.endpoints.router import Page
from connectsoft_obs.internal_telemetry import guard
from connectsoft_obs.process import threads
from connectsoft_obs.signals.logs.levels import WARNING
from connectsoft_obs.telemetry import Telemetry

T = TypeVar("T")


async def run_in_thread(function: Callable[[], T]) -> T:
    """Call a function in a new daemon thread and return its result. Works with asyncio and trio.

    The default thread pool of the event loop is not used, because the application may have filled it with calls that
    wait. If no thread can be started, the function is called on the event loop.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None:
            return function()
        result: T = await trio.to_thread.run_sync(function, limiter=trio.CapacityLimiter(1))
        return result
    future: asyncio.Future[T] = loop.create_future()
    thread = None
    with guard("endpoints.thread"):
        thread = threads.start_thread("obs-endpoint", _call, function, loop, future)
    if thread is None:
        return function()
    return await future


def _call(function: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    set_outcome: Callable[[], None]
    try:
        set_outcome = partial(future.set_result, function())
    except BaseException as error:  # noqa: BLE001  raised again by the future
        set_outcome = partial(future.set_exception, error)

    def complete() -> None:
        if not future.cancelled():
            set_outcome()

    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(complete)


class EndpointResponder:
    """Answers the requests for the endpoints of one Telemetry."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._router = EndpointRouter(telemetry)
        self.pages: dict[str, Page] = dict(self._router.pages)
        """Pages by path, for an application that is not mounted below another path."""
        self.prefixes: tuple[str, ...] = self._router.prefixes
        """Prefixes of the paths that have a page without being in `pages`."""
        self._app_paths: re.Pattern[str] | None = None  # routes of the application below one of the prefixes

    def yield_paths_to_app(self, application: Any) -> None:
        """Disable the built-in endpoints that the application routes itself, except the three probe paths.

        The application's routes below a probe path (`/health/live/...`) stay the application's too.
        """
        app_paths = set(list_route_paths(getattr(application, "routes", ())))
        if below := [path_pattern(path) for path in app_paths if path.startswith(self.prefixes)]:
            self._app_paths = re.compile("|".join(below))
        for path in sorted(self.pages.keys() & app_paths):
            if path in self._router.reserved_paths:
                continue
            self.pages.pop(path, None)
            setting = self._router.setting_by_path.get(path)
            if setting is None:  # only the path with a trailing slash is the application's
                continue
            self.pages.pop(f"{path}/", None)
            self._telemetry.log(
                WARNING,
                f"{path} is already routed by the application; the built-in endpoint is disabled for it",
                {"path": path, "setting": f"CONNECTSOFT_OBS_{setting.upper()}"},
            )

    def find_page(self, scope: Scope) -> Page | None:
        """Return the page for a request, or None if the application handles it."""
        path = scope["path"]
        if root_path := scope.get("root_path"):
            path = path.removeprefix(root_path)
        page = self.pages.get(path)
        if page is not None:
            return page if scope["method"] in ("GET", "HEAD") else None
        if not path.startswith(self.prefixes) or (self._app_paths is not None and self._app_paths.fullmatch(path)):
            return None
        return self._router.find_page_by_prefix(scope["method"], path)

    async def send(self, page: Page, scope: Scope, send: Send) -> None:
        """Send the response of a page. A page that fails is answered with a 500."""
        with self._telemetry.internal_telemetry.guard("health.start"):
            self._telemetry.health.start()  # without a lifespan, the event loop that checks run on may be a new one
        client, server = scope.get("client"), scope.get("server")
        is_unix_socket = not client and server and server[1] is None
        request = EndpointRequest(
            scope["method"],
            scope.get("query_string", b""),
            dict(scope["headers"]),
            client[0] if client else UNIX_SOCKET if is_unix_socket else None,
            scope.get("http_version", "1.1"),
        )
        if page in self._router.slow_pages:
            response = await self._respond_in_thread(page, request)
        else:
            response = self._respond(page, request)
        await send_response(response, scope, send)

    async def _respond_in_thread(self, page: Page, request: EndpointRequest) -> EndpointResponse:
        with self._telemetry.internal_telemetry.guard("endpoints.page"):
            return await run_in_thread(lambda: self._respond(page, request))
        return self._respond(page, request)  # without a thread after an internal error

    def _respond(self, page: Page, request: EndpointRequest) -> EndpointResponse:
        with self._telemetry.internal_telemetry.guard("endpoints.page"):
            return page(request)
        return INTERNAL_SERVER_ERROR


async def send_response(response: EndpointResponse, scope: Scope, send: Send) -> None:
    """Send a response; without its body if the request is a HEAD."""
    await send({"type": "http.response.start", "status": response.status, "headers": response.all_headers()})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})

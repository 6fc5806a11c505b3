"""The endpoints over ASGI: which requests are ours to answer, and sending the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from connectsoft_obs.asgi.threads import run
from connectsoft_obs.asgi.types import Scope, Send
from connectsoft_obs.endpoints import Asked, Endpoints
from connectsoft_obs.endpoints.asked import FAILED, Answered
from connectsoft_obs.endpoints.endpoints import Page
from connectsoft_obs.signals.logs.levels import WARNING
from connectsoft_obs.telemetry import Telemetry


class Answers:
    """Answers probes and scrapes of one Telemetry."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._endpoints = Endpoints(telemetry)
        self.paths: dict[str, Page] = dict(self._endpoints.paths)
        """What is ours, if the application is not mounted below another path; `below` is how the rest begins."""
        self.below: tuple[str, ...] = self._endpoints.below

    def leave_to(self, application: Any) -> None:
        """Leave to the application what it routes itself, except the paths that probers depend on."""
        own = set(_literal_paths(getattr(application, "routes", ()), ""))
        for path in sorted(self.paths.keys() & own):
            if path in self._endpoints.fixed:
                continue
            del self.paths[path]
            setting = self._endpoints.settings[path]
            self._telemetry.say(
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
            self._telemetry.ledger.error("health.start", failure)
        client = scope.get("client")
        asked = Asked(
            scope["method"],
            scope.get("query_string", b""),
            dict(scope["headers"]),
            client[0] if client else None,
        )
        answered = await self._in_thread(page, asked) if page in self._endpoints.slow else self._asked(page, asked)
        await send({"type": "http.response.start", "status": answered.status, "headers": answered.all_headers()})
        body = b"" if asked.method == "HEAD" else answered.body
        await send({"type": "http.response.body", "body": body})

    async def _in_thread(self, page: Page, asked: Asked) -> Answered:
        """Ask for a page off the event loop, in a thread of ours: the application's own may all be waiting."""
        return await run(lambda: self._asked(page, asked))

    def _asked(self, page: Page, asked: Asked) -> Answered:
        try:
            return page(asked)
        except Exception as failure:  # noqa: BLE001  a page of ours that fails is a 500, and counted
            self._telemetry.ledger.error("endpoints.page", failure)
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

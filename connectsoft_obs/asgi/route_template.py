"""The route template of a request, read off what the framework left in the scope; nothing is matched again.

Starlette leaves the innermost route in `scope["route"]` and FastAPI an effective route with the prefixes of included
routers, but of the mounts passed on the way only the concrete path. Which mounts lead to a route is a property of the
route table, so it is looked up there once for each route and kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Route: TypeAlias = Callable[[Scope], str | None]

_KEPT = 10_000
_PARAMETER = re.compile(r"\{[^}]*\}")


class RouteTemplates:
    """Templates by route object. Thread-safe; what it holds is bounded by the number of routes."""

    def __init__(self) -> None:
        self._known: dict[int | tuple[int, int], tuple[Any, str]] = {}

    def find(self, scope: Scope, root: str) -> str:
        """The template, or "" where no route matched. `root` is the root path that the server gave."""
        route = scope.get("route")
        place = scope.get("endpoint") if route is None else route
        if place is None:
            return ""
        effective = _effective(scope, route) if "fastapi" in scope else None
        known = self._known.get(id(place) if effective is None else (id(place), id(effective)))
        if known is None or known[0] is not place:
            return self._found(scope, root, place, effective)
        return f"{root}{known[1]}" if root and known[1] else known[1]

    def _found(self, scope: Scope, root: str, place: Any, effective: Any) -> str:
        chains = list(_chains(getattr(scope.get("router"), "routes", ()), place, ()))
        if scope.get("route") is None and not chains:
            return ""  # an endpoint that no route table knows
        local = _local(chains[0][-1] if chains else place, place, effective)
        prefixes = {"".join(_mount(mount) for mount in chain[:-1]) for chain in chains} or {""}
        if len(prefixes) > 1:  # the same routes are mounted in several places: the path says which
            passed = str(scope.get("root_path", ""))[len(root) :]
            fitting = [prefix for prefix in prefixes if _fits(prefix, passed, "[^/]+")]
            fitting = fitting or [prefix for prefix in prefixes if _fits(prefix, passed, ".+")]
            return f"{root}{max(fitting, key=len)}{local}" if fitting and local else ""
        template = f"{prefixes.pop()}{local}" if local else ""
        if len(self._known) < _KEPT:
            # The object is kept with its template, so that its id cannot be given to another one.
            self._known[id(place) if effective is None else (id(place), id(effective))] = (place, template)
        return f"{root}{template}" if template else ""


def _effective(scope: Scope, route: Any) -> Any:
    """FastAPI's route with the prefixes of the routers that include it."""
    fastapi = scope.get("fastapi")
    if not fastapi:
        return None
    context = fastapi.get("effective_route_context")
    return context if context is not None and getattr(context, "original_route", None) is route else None


def _local(entry: Any, place: Any, effective: Any) -> str:
    """The innermost template; "" for a mount whose own routes did not match."""
    if effective is not None:
        inner = getattr(effective, "starlette_route", None)
        return str(getattr(inner, "path_format", None) or effective.path_format)
    route = place if hasattr(place, "path_format") else entry
    if not hasattr(route, "endpoint") and getattr(route, "routes", None):
        return ""
    return str(getattr(route, "path_format", ""))


def _chains(routes: Any, place: Any, before: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The ways from the outermost routes to a route or endpoint."""
    if len(before) > 20:
        return
    for route in routes:
        if route is place or getattr(route, "endpoint", None) is place or _is_mount_of(route, place):
            yield (*before, route)
        router = getattr(route, "original_router", None)
        yield from _chains(getattr(router or route, "routes", ()) or (), place, (*before, route))


def _is_mount_of(route: Any, place: Any) -> bool:
    return not hasattr(route, "endpoint") and getattr(route, "app", None) is place


def _mount(route: Any) -> str:
    """The template of a mount; routers that FastAPI includes and hosts have none here."""
    if hasattr(route, "host") or not hasattr(route, "path_format"):
        return ""
    return str(route.path_format).removesuffix("/{path}")


def _fits(prefix: str, passed: str, parameter: str) -> bool:
    pattern = parameter.join(re.escape(part) for part in _PARAMETER.split(prefix))
    return re.fullmatch(pattern, passed) is not None

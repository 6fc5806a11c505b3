"""The route template of a request, taken from what the framework has stored in the ASGI scope.

Starlette stores the innermost route in `scope["route"]` and FastAPI an effective route with the prefixes of included
routers. For mounts, the scope has only the concrete path. The mounts that lead to a route are looked up in the route
table, once for each route. The templates of other frameworks come from `non_starlette_routes`.

All names of Starlette's and FastAPI's routing that are not public are used in this module only
(tests/asgi/test_private_names.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from connectsoft_obs.asgi.non_starlette_routes import FrameworkRoutes, is_litestar_mount, litestar_mount_path
from connectsoft_obs.asgi.types import App, Scope

RouteFunction: TypeAlias = Callable[[Scope], str | None]
"""Returns the route template of a request, None if no route matched."""

_MAX_CACHED_TEMPLATES = 10_000
_MAX_DEPTH = 20
_PARAMETER = re.compile(r"\{[^}]*\}")
_TYPE_OF_PARAMETER = re.compile(r":[^}]*\}")


class RouteTemplates:
    """Cache of route templates by route object, bounded by the number of routes. Thread-safe.

    Args:
        app: the application that the middleware wraps.
        on_error: called with the exception of a framework's router that cannot be read.
    """

    def __init__(self, app: App, on_error: Callable[[Exception], object]) -> None:
        self._app = app
        self._frameworks = FrameworkRoutes(on_error)
        self._cache: dict[int | tuple[int, int], tuple[Any, str]] = {}

    def find(self, scope: Scope, root_path: str) -> str:
        """Return the template, or "" if no route matched. `root_path` is the one that the server has set."""
        route = scope.get("route")
        target = scope.get("endpoint") if route is None else route
        if target is None:
            return self._frameworks.find(self._app, scope, root_path)
        effective = _effective_route(scope, route) if "fastapi" in scope else None
        cached = self._cache.get(id(target) if effective is None else (id(target), id(effective)))
        if cached is None or cached[0] is not target:
            return self._look_up(scope, root_path, target, effective)
        return f"{root_path}{cached[1]}" if root_path and cached[1] else cached[1]

    def _look_up(self, scope: Scope, root_path: str, target: Any, effective: Any) -> str:
        chains = list(_find_route_chains(getattr(scope.get("router"), "routes", ()), target, ()))
        if scope.get("route") is None and not chains:
            return ""  # an endpoint that is in no route table
        mounted = (
            None if len(chains) != 1 or hasattr(chains[0][-1], "endpoint") else getattr(chains[0][-1], "app", None)
        )
        if mounted is not None and self._frameworks.supports(mounted, scope):
            return self._frameworks.find(mounted, scope, root_path + "".join(map(_mount_template, chains[0])))
        local = _local_template(chains[0][-1] if chains else target, target, effective)
        prefixes = {"".join(_mount_template(mount) for mount in chain[:-1]) for chain in chains} or {""}
        if local and is_litestar_mount(scope):  # not cached: Litestar may mount the application several times
            return f"{root_path}{litestar_mount_path(scope)}{prefixes.pop()}{local}"
        if len(prefixes) > 1:  # the routes are mounted several times: the concrete path decides
            mount_path = str(scope.get("root_path", ""))[len(root_path) :]
            matches = [prefix for prefix in prefixes if _matches_prefix(prefix, mount_path, "[^/]+")]
            matches = matches or [prefix for prefix in prefixes if _matches_prefix(prefix, mount_path, ".+")]
            return f"{root_path}{max(matches, key=len)}{local}" if matches and local else ""
        template = f"{prefixes.pop()}{local}" if local else ""
        if len(self._cache) < _MAX_CACHED_TEMPLATES:
            # The cache holds a reference to the object, so that no other object can get the same id.
            self._cache[id(target) if effective is None else (id(target), id(effective))] = (target, template)
        return f"{root_path}{template}" if template else ""


def _effective_route(scope: Scope, route: Any) -> Any:
    """Return FastAPI's context of a route, which has the prefixes of the routers that include the route."""
    fastapi = scope.get("fastapi")
    if not fastapi:
        return None
    context = fastapi.get("effective_route_context")
    return context if context is not None and getattr(context, "original_route", None) is route else None


def _local_template(entry: Any, target: Any, effective: Any) -> str:
    """Return the template of the innermost route, or "" for a mount whose own routes did not match."""
    if effective is not None:
        inner = getattr(effective, "starlette_route", None)
        return str(getattr(inner, "path_format", None) or effective.path_format)
    route = target if hasattr(target, "path_format") else entry
    if not hasattr(route, "endpoint") and getattr(route, "routes", None):
        return ""
    return str(getattr(route, "path_format", ""))


def _find_route_chains(routes: Any, target: Any, parents: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the chains of mounts and routers from the outermost route table to a route or endpoint."""
    if len(parents) > _MAX_DEPTH:
        return
    for route in routes:
        if route is target or getattr(route, "endpoint", None) is target or _is_mount_of(route, target):
            yield (*parents, route)
        router = getattr(route, "original_router", None)
        yield from _find_route_chains(getattr(router or route, "routes", ()) or (), target, (*parents, route))


def _is_mount_of(route: Any, target: Any) -> bool:
    return not hasattr(route, "endpoint") and getattr(route, "app", None) is target


def _mount_template(route: Any) -> str:
    """Return the template of a mount, or "" for hosts and for routers that FastAPI includes."""
    if hasattr(route, "host") or not hasattr(route, "path_format"):
        return ""
    return str(route.path_format).removesuffix("/{path}")


def _matches_prefix(prefix: str, mount_path: str, parameter: str) -> bool:
    pattern = parameter.join(re.escape(part) for part in _PARAMETER.split(prefix))
    return re.fullmatch(pattern, mount_path) is not None


def path_pattern(template: str) -> str:
    """Return a regular expression of the paths that match a path template of Starlette."""
    parts, parameters = _PARAMETER.split(template), [*_PARAMETER.findall(template), ""]
    return "".join(
        re.escape(part) + (parameter and (".*" if parameter.endswith(":path}") else "[^/]+"))
        for part, parameter in zip(parts, parameters, strict=True)
    )


def list_route_paths(routes: Any, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the path templates of a route table and of its mounts, each with `prefix`."""
    for route in routes or ():
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:
            for context in contexts():
                yield prefix + str(getattr(context, "path_format", ""))
            continue
        path = str(getattr(route, "path", ""))
        yield prefix + path
        if depth < _MAX_DEPTH and getattr(route, "routes", None):
            yield from list_route_paths(route.routes, prefix + path, depth + 1)


class RouteTable(NamedTuple):
    """The route templates of an application, in the form that telemetry contains.

    Args:
        templates: the templates.
        opaque_prefixes: templates of mounts whose own routes are not known.
    """

    templates: frozenset[str]
    opaque_prefixes: tuple[str, ...]


def read_route_table(application: Any) -> RouteTable | None:
    """Return the routes of a Starlette or FastAPI application, also inside of middlewares, or None for any other."""
    for _ in range(_MAX_DEPTH):
        if application is None:
            return None
        if routes := getattr(application, "routes", None):
            break
        application = getattr(application, "app", None)
    templates: list[str] = []
    opaque: list[str] = []
    try:
        _collect_templates(routes, "", templates, opaque, 0)
    except AttributeError:  # the route of another framework
        return None
    return RouteTable(frozenset(filter(None, templates)), tuple(opaque))


def _collect_templates(routes: Any, prefix: str, templates: list[str], opaque: list[str], depth: int) -> None:
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:
            templates.extend(prefix + _without_types(getattr(context, "path_format", "")) for context in contexts())
        elif hasattr(route, "endpoint"):
            templates.append(prefix + _without_types(route.path))
        else:  # a mount, or a host
            inner = prefix + (_without_types(route.path) if hasattr(route, "path") else "")
            if route.routes and depth < _MAX_DEPTH:
                _collect_templates(route.routes, inner, templates, opaque, depth + 1)
            else:
                opaque.append(inner)


def _without_types(path: str) -> str:
    return _TYPE_OF_PARAMETER.sub("}", path)

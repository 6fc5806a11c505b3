"""Route templates of frameworks other than Starlette and FastAPI.

Litestar stores the template in the ASGI scope. Quart, Django, Channels, BlackSheep and Falcon store it in no place that a
middleware can read, so this module calls their router when the request is complete. An application is recognised
by the package that defines its class; no framework is imported.

All templates have parameters as `{name}`. All names of these frameworks that are not public are used in this module only
(tests/asgi/test_non_starlette_routes.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeAlias
from urllib.parse import unquote

from connectsoft_obs.asgi.types import Scope

RouteFinder: TypeAlias = Callable[[Scope, str], str]
"""Takes a scope and the template of the mounts that lead to the application. Returns the template, or "" for no route."""

_MAX_DEPTH = 20
_MAX_CACHED_TEMPLATES = 4096
_INNER_APP_ATTRIBUTES = ("app", "application", "inner")
"""Where middlewares of Starlette, asgiref and Channels keep the application that they wrap."""

_TYPE_AND_NAME = re.compile(r"<(?:[^<>]*:)?(\w+)>")  # Django and Werkzeug: <int:order_id>
_FALCON_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")  # {order_id:int}
_BLACKSHEEP_PARAMETER = re.compile(r"(?:\{(?:\w+:)?|:|<)(\w+)[}>]?")  # {int:order_id}, :order_id, <order_id>
_SLASHES = re.compile("/+")
_REGEX_ANCHORS = re.compile(r"\\[AZbB]|[\^$?]|\\(?=.)")
_GROUP_NAME = re.compile(r"\?P<(\w+)>")


class FrameworkRoutes:
    """Finds the route templates of applications whose framework is known. Thread-safe.

    Args:
        on_error: called with the exception of a router that cannot be read; such a request has no route.
    """

    def __init__(self, on_error: Callable[[Exception], object]) -> None:
        self._on_error = on_error
        self._finders: dict[tuple[int, str], tuple[Any, RouteFinder | None]] = {}

    def find(self, app: Any, scope: Scope, prefix: str) -> str:
        """Return the template of a completed request, or "" if no route matched or the framework is not known."""
        finder = self._finder(app, scope["type"]) or _find_litestar_route
        try:
            return finder(scope, prefix)
        except Exception as failure:  # noqa: BLE001  a version of the framework that this module does not know
            self._on_error(failure)
            return ""

    def supports(self, app: Any, scope: Scope) -> bool:
        """Return whether `find()` supports the framework of an application."""
        return self._finder(app, scope["type"]) is not None

    def _finder(self, app: Any, scope_type: str) -> RouteFinder | None:
        key = (id(app), scope_type)
        cached = self._finders.get(key)
        if cached is None or cached[0] is not app:
            # The cache holds a reference to the object, so that no other object can get the same id.
            cached = self._finders[key] = (app, create_finder(app, scope_type))
        return cached[1]


def create_finder(app: Any, scope_type: str) -> RouteFinder | None:
    """Return the finder of an application or of the one that its middlewares wrap, None if no framework is known."""
    for _ in range(_MAX_DEPTH):
        app = getattr(app, "__self__", app)  # `Quart.asgi_app` is a bound method
        packages = {base.__module__.partition(".")[0] for base in type(app).__mro__}
        for package, create in _FINDERS.items():
            if package in packages and (finder := create(app)) is not None:
                return finder
        protocols = getattr(app, "application_mapping", None)  # of Channels' ProtocolTypeRouter
        if isinstance(protocols, dict):
            app = protocols.get(scope_type)
        else:
            inner_apps = (getattr(app, name, None) for name in _INNER_APP_ATTRIBUTES)
            app = next((inner for inner in inner_apps if callable(inner)), None)
        if app is None:
            return None
    return None


def _local_path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _method(scope: Scope) -> str:
    return str(scope.get("method", "GET"))


def _litestar_finder(_: Any) -> RouteFinder | None:
    return _find_litestar_route


def _find_litestar_route(scope: Scope, prefix: str) -> str:
    if is_litestar_mount(scope):
        return f"{prefix}{litestar_mount_path(scope)}/{{path}}"
    template = scope.get("path_template")
    return prefix + template if isinstance(template, str) else ""


def is_litestar_mount(scope: Scope) -> bool:
    """Return whether Litestar has passed a request to an application that it mounts."""
    return getattr(scope.get("route_handler"), "is_mount", False) is True


def litestar_mount_path(scope: Scope) -> str:
    """Return the path of a Litestar mount, which has no parameters. Litestar leaves the rest of the path in the scope."""
    path = unquote((scope.get("raw_path") or b"").decode("latin-1")).removeprefix(scope.get("root_path", ""))
    return _SLASHES.sub("/", f"/{path}/").removesuffix(scope["path"].strip("/") + "/").rstrip("/")


def _quart_finder(app: Any) -> RouteFinder | None:
    url_map = getattr(app, "url_map", None)
    return None if url_map is None else partial(_find_werkzeug_rule, url_map)


def _find_werkzeug_rule(url_map: Any, scope: Scope, prefix: str) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    adapter = url_map.bind(host or "localhost", url_scheme="http")
    match = partial(adapter.match, _local_path(scope), return_rule=True, websocket=scope["type"] == "websocket")
    try:
        rule, _ = match(method=_method(scope))
    except Exception as error:
        # Werkzeug raises HTTP responses: not found, a redirect to the path with a slash, a method that is not allowed.
        methods = getattr(error, "valid_methods", None)
        if methods:
            rule, _ = match(method=methods[0])
        elif hasattr(error, "get_response"):
            return ""
        else:
            raise
    return prefix + _with_braces(_TYPE_AND_NAME, rule.rule)


def _django_finder(app: Any) -> RouteFinder | None:
    if not hasattr(app, "resolve_request"):  # not a request handler
        return None
    return _find_django_pattern


def _find_django_pattern(scope: Scope, prefix: str) -> str:
    urls = sys.modules["django.urls"]
    try:
        # Uses the URL configuration that the request has set, because that is stored in the current context.
        match = urls.resolve(_local_path(scope))
    except urls.Resolver404:
        return ""
    return f"{prefix}/{_django_template(match.route)}"


def _channels_finder(app: Any) -> RouteFinder | None:
    return partial(_find_channels_pattern, app) if hasattr(app, "routes") else None


def _find_channels_pattern(router: Any, scope: Scope, prefix: str) -> str:
    path = _local_path(scope).lstrip("/")
    prefix += "/"
    for _ in range(_MAX_DEPTH):  # routers can be nested
        match = None
        for route in router.routes:
            match = route.pattern.match(path)
            if match is not None:
                break
        if match is None:
            return ""
        pattern = _django_template(str(route.pattern))
        finder = create_finder(route.callback, scope["type"])
        if finder is None:
            return prefix + pattern
        if getattr(finder, "func", None) is not _find_channels_pattern:
            return finder(scope, prefix.removesuffix("/"))  # it reads the full path
        path, prefix, router = match[0], prefix + pattern, finder.args[0]  # type: ignore[attr-defined]
    return ""


def _blacksheep_finder(app: Any) -> RouteFinder | None:
    find = getattr(getattr(app, "router", None), "get_match_by_method_and_path", None)
    return None if find is None else partial(_find_blacksheep_route, app.router)


def _find_blacksheep_route(router: Any, scope: Scope, prefix: str) -> str:
    if scope["type"] == "websocket":
        match = router.get_match_by_method_and_path("GET_WS", _local_path(scope))
    else:  # BlackSheep has cached the match
        prefix = ""
        match = router.get_match_by_method_and_path(_method(scope), scope.get("raw_path") or scope["path"].encode())
    if match is None or match.pattern in (b"*", "*"):  # the handler of requests that match no route
        return ""
    return prefix + _with_braces(_BLACKSHEEP_PARAMETER, match.pattern.decode())


def _falcon_finder(app: Any) -> RouteFinder | None:
    router = getattr(app, "_router", None)
    return None if router is None else partial(_find_falcon_route, app, router)


def _find_falcon_route(app: Any, router: Any, scope: Scope, _: str) -> str:
    """Return the template of Falcon's route, which has the full path."""
    path = scope["path"] or "/"
    if app.req_options.strip_url_path_trailing_slash and path != "/":
        path = path.removesuffix("/")
    match = router.find(path)
    return "" if match is None or match[0] is None else _with_braces(_FALCON_PARAMETER, match[3])


_FINDERS: dict[str, Callable[[Any], RouteFinder | None]] = {
    "litestar": _litestar_finder,
    "quart": _quart_finder,
    "django": _django_finder,
    "channels": _channels_finder,
    "blacksheep": _blacksheep_finder,
    "falcon": _falcon_finder,
}


@lru_cache(_MAX_CACHED_TEMPLATES)
def _with_braces(parameter: re.Pattern[str], route: str) -> str:
    return parameter.sub(r"{\1}", route)


@lru_cache(_MAX_CACHED_TEMPLATES)
def _django_template(route: str) -> str:
    """Return the template of a `path()` or `re_path()` pattern: groups as parameters, without anchors."""
    parts: list[str] = []
    text = _TYPE_AND_NAME.sub(r"{\1}", route) if "(" not in route else route
    start = depth = 0
    for match in re.finditer(r"\\.|[()]", text):
        if match[0] == "(":
            if depth == 0:
                parts.append(_REGEX_ANCHORS.sub("", text[start : match.start()]))
                start = match.end()
            depth += 1
        elif match[0] == ")" and depth:
            depth -= 1
            if depth == 0:
                name = _GROUP_NAME.match(text, start)
                parts.append(f"{{{name[1] if name else 'value'}}}")
                start = match.end()
    return "".join(parts) + _REGEX_ANCHORS.sub("", text[start:])

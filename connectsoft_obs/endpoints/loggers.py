"""The loggers page: `GET` returns the log levels, `PUT /loggers/{name}?level=debug&seconds=300` sets one for a while.

It is disabled unless `loggers_path` is set, and requires the details token, because verbose logs can be expensive and can
contain confidential data.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from connectsoft_obs.endpoints.access_policy import AccessPolicy
from connectsoft_obs.endpoints.request_response import JSON, EndpointRequest, EndpointResponse
from connectsoft_obs.signals.logs.levels import LEVEL_BY_NAME, ROOT_LOGGER, Levels
from connectsoft_obs.signals.logs.runtime_levels import RuntimeLevels

METHODS = ("GET", "HEAD", "PUT")
_LEVEL_NAMES = {number: name for name, number in LEVEL_BY_NAME.items()}
_MAX_NAME_LENGTH = 200


class LoggersPage:
    """The loggers page of one Telemetry. Thread-safe.

    Args:
        path: path of the page; a logger has the path `{path}/{name}`.
        levels: the current log levels.
        runtime_levels: sets levels at run time.
        access: decides who may use the page.
    """

    def __init__(self, path: str, levels: Levels, runtime_levels: RuntimeLevels, access: AccessPolicy) -> None:
        self.path: str = path.rstrip("/")
        self._levels = levels
        self._runtime_levels = runtime_levels
        self._access = access

    def owns_path(self, path: str) -> bool:
        """Return whether a path is the path of this page or of a logger below it."""
        return path == self.path or path.startswith(self.path + "/")

    def page(self, request: EndpointRequest, path: str) -> EndpointResponse:
        """Return the response to a request for `path`, after setting the level if the method is PUT."""
        if not self._access.has_details_token(request):
            return EndpointResponse(
                401, JSON, b'{"error": "the details token is required"}', ((b"www-authenticate", b"Bearer"),)
            )
        name = unquote(path.removeprefix(self.path).strip("/"))
        if request.method == "PUT":
            return self._set_level(name, request)
        if name:
            return _json_response(200, self._describe(name))
        return _json_response(
            200, {"loggers": {logger: self._describe(logger) for logger in sorted(self._levels.explicit_levels())}}
        )

    def _set_level(self, name: str, request: EndpointRequest) -> EndpointResponse:
        parameters = parse_qs(request.query.decode("latin-1"))
        level = LEVEL_BY_NAME.get(parameters.get("level", [""])[-1].lower())
        max_seconds = self._runtime_levels.max_seconds
        if not name or len(name) > _MAX_NAME_LENGTH or not name.isprintable():
            return _error_response(f"the path must end with the name of a logger; {ROOT_LOGGER} is the root logger")
        if level is None:
            return _error_response(f"level must be one of {', '.join(LEVEL_BY_NAME)}")
        try:
            seconds = float(parameters.get("seconds", [max_seconds])[-1])
        except ValueError:
            return _error_response("seconds must be a number")
        if not 0 <= seconds <= max_seconds:
            return _error_response(f"seconds must be a number from 0 to {max_seconds:g}")
        if not self._runtime_levels.set(name, level, seconds):
            return _error_response("the limit of loggers with a level of their own is reached")
        return _json_response(200, self._describe(name))

    def _describe(self, name: str) -> dict[str, Any]:
        level = self._levels.effective_level("" if name == ROOT_LOGGER else name)
        description: dict[str, Any] = {"level": _LEVEL_NAMES.get(level)}
        override = self._runtime_levels.active_overrides().get(name)
        return description if override is None else {**description, "until": round(override.until, 3)}


def _json_response(status: int, content: dict[str, Any]) -> EndpointResponse:
    return EndpointResponse(status, JSON, orjson.dumps(content))


def _error_response(message: str) -> EndpointResponse:
    return _json_response(400, {"error": message})

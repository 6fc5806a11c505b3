"""Log levels at run time: `GET` shows them, `PUT /loggers/{name}?level=debug&seconds=300` sets one for a while.

Off unless `loggers_path` is set, and only for holders of the details token, because what is logged can cost money and
reveal much.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from connectsoft_obs.endpoints.messages import JSON, AccessPolicy, EndpointRequest, EndpointResponse
from connectsoft_obs.signals.logs.levels import LEVEL_BY_NAME, ROOT, Levels
from connectsoft_obs.signals.logs.runtime_levels import RuntimeLevels

METHODS = ("GET", "HEAD", "PUT")
_WORDS = {number: name for name, number in LEVEL_BY_NAME.items()}
_LONGEST_NAME = 200


class Loggers:
    """The page of one Telemetry. Thread-safe.

    Args:
        path: where it is.
        levels: which levels are in force.
        overrides: what sets them.
        access: who may.
    """

    def __init__(self, path: str, levels: Levels, overrides: RuntimeLevels, access: AccessPolicy) -> None:
        self.path: str = path.rstrip("/")
        self._levels = levels
        self._overrides = overrides
        self._access = access

    def owns_path(self, path: str) -> bool:
        """Whether a path is this page's, or a logger's below it."""
        return path == self.path or path.startswith(self.path + "/")

    def page(self, asked: EndpointRequest, path: str) -> EndpointResponse:
        """Answer a question about `path`, or an order."""
        if not self._access.has_details_token(asked):
            return EndpointResponse(
                401, JSON, b'{"error": "the details token is needed"}', ((b"www-authenticate", b"Bearer"),)
            )
        name = unquote(path.removeprefix(self.path).strip("/"))
        if asked.method == "PUT":
            return self._set(name, asked)
        if name:
            return _answer(200, self._about(name))
        return _answer(200, {"loggers": {known: self._about(known) for known in sorted(self._levels.own())}})

    def _set(self, name: str, asked: EndpointRequest) -> EndpointResponse:
        given = parse_qs(asked.query.decode("latin-1"))
        level = LEVEL_BY_NAME.get(given.get("level", [""])[-1].lower())
        if not name or len(name) > _LONGEST_NAME or not name.isprintable():
            return _refused(f"a logger is named in the path; {ROOT} is the one above all others")
        if level is None:
            return _refused(f"level is one of {', '.join(LEVEL_BY_NAME)}")
        try:
            seconds = float(given.get("seconds", [self._overrides.longest])[-1])
        except ValueError:
            return _refused("seconds is a number")
        if not 0 <= seconds <= self._overrides.longest:
            return _refused(f"seconds is a number from 0 to {self._overrides.longest:g}")
        if not self._overrides.set(name, level, seconds):
            return _refused("too many loggers have a level of their own")
        return _answer(200, self._about(name))

    def _about(self, name: str) -> dict[str, Any]:
        about: dict[str, Any] = {"level": _WORDS.get(self._levels.effective_level("" if name == ROOT else name))}
        override = self._overrides.current().get(name)
        return about if override is None else {**about, "until": round(override.until, 3)}


def _answer(status: int, content: dict[str, Any]) -> EndpointResponse:
    return EndpointResponse(status, JSON, orjson.dumps(content))


def _refused(why: str) -> EndpointResponse:
    return _answer(400, {"error": why})

"""pytest plugin for the test suite of Starlette or FastAPI: observes every application that the suite creates.

`FRAMEWORK_SUITE_POSITION` is `bare` (not observed), `around` (the middleware wraps each application that a test client
is created for) or `inside` (each application adds the middleware as its outermost one).
"""

from __future__ import annotations

import functools
import os
from typing import Any

import starlette.testclient
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware

from connectsoft_obs import ObservabilityMiddleware

SERVICE = "framework-suite"


class ObservedApplication(ObservabilityMiddleware):
    """The middleware with the attributes of the application, which tests read as `client.app`."""

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the application."""
        return getattr(self.__dict__["app"], name)


def observe_around() -> None:
    """Wrap each ASGI 3 application that a test client is created for."""
    create = starlette.testclient.TestClient.__init__

    @functools.wraps(create)
    def create_with_middleware(self: Any, app: Any, *args: Any, **options: Any) -> None:
        is_asgi3 = starlette.testclient._is_asgi3(app)
        create(self, ObservedApplication(app, service=SERVICE) if is_asgi3 else app, *args, **options)

    starlette.testclient.TestClient.__init__ = create_with_middleware  # type: ignore[method-assign]


def observe_inside(framework: Any) -> None:
    """Add the middleware to each application whose middleware stack is built."""
    build = framework.build_middleware_stack

    @functools.wraps(build)
    def build_with_middleware(self: Any) -> Any:
        added = self.user_middleware
        self.user_middleware = [Middleware(ObservabilityMiddleware, service=SERVICE), *added]
        try:
            return build(self)
        finally:
            self.user_middleware = added

    framework.build_middleware_stack = build_with_middleware


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Leave out FastAPI's tests that start a process: it does not load this plugin, and has to end within 15 s."""
    items[:] = [item for item in items if not item.function.__code__.co_filename.endswith("_subprocess.py")]


match os.environ["FRAMEWORK_SUITE_POSITION"]:
    case "around":
        observe_around()
    case "inside":
        observe_inside(Starlette)
        observe_inside(FastAPI)

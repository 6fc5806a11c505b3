"""Wraps the middleware stack of Starlette or FastAPI so that this middleware is outermost.

`add_middleware` adds a middleware inside the framework's error middleware, whose response to an unhandled exception is
not visible there. So the built stack is wrapped once: at the lifespan, or at the first request.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from connectsoft_obs.asgi.types import App, Receive, Scope, Send

_FIRST_REQUEST_KEY = "connectsoft_obs.first"
"""Key in the ASGI scope of the request that is in the old middleware stack when the stack is wrapped."""

_FRAMEWORK_MODULES = ("fastapi.", "starlette.middleware.body_limit")
"""Modules of the middlewares that FastAPI adds around those of the application."""

ConnectionHandler = Callable[[App, Scope, Receive, Send], Awaitable[None]]


class Outermost:
    """Replaces the middleware stack of an application.

    Args:
        handle: handles HTTP and WebSocket connections.
        handle_lifespan: handles later lifespans, as the middleware is removed from the inner stack.
        app: the original stack. The attribute has the name that middlewares use for the application they wrap.
    """

    def __init__(self, handle: ConnectionHandler, handle_lifespan: ConnectionHandler, app: App) -> None:
        self._handle = handle
        self._handle_lifespan = handle_lifespan
        self.app = app

    # A plain function that returns an awaitable: one coroutine around another costs 0.4 us.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection or lifespan."""
        kind = scope["type"]
        if kind in ("http", "websocket"):
            # A local variable, because Python looks up `self._handle()` as a method, which an instance attribute is not.
            handle = self._handle
            return handle(self.app, scope, receive, send)
        if kind == "lifespan":
            handle_lifespan = self._handle_lifespan
            return handle_lifespan(self.app, scope, receive, send)
        return self.app(scope, receive, send)


def wrap_middleware_stack(
    application: Any, handle: ConnectionHandler, handle_lifespan: ConnectionHandler
) -> App | None:
    """Wrap the built stack of an application. Return the stack, or None if there is none or it is wrapped already."""
    stack: App | None = getattr(application, "middleware_stack", None)
    if stack is None or isinstance(stack, Outermost):
        return None
    application.middleware_stack = Outermost(handle, handle_lifespan, stack)
    return stack


def remove_inner_middleware(stack: Any, inner: Any) -> None:
    """Remove a middleware from a stack. It is around the stack now; this saves a coroutine per request and message."""
    visited: set[int] = set()
    while id(stack) not in visited:
        visited.add(id(stack))
        app: Any = getattr(stack, "app", None)
        if app is inner:
            stack.app = inner.app
            return
        stack = app


def wrap_error_middleware(stack: Any, inner: App, scope: Scope) -> App:
    """Wrap `inner` in a copy of the framework's error middleware, for the one request that is in the old stack already.

    The copy sends the 500 through this middleware. The original middleware finds that the response has started and only
    raises the exception again, but it would call the application's error handler a second time. It is replaced by one
    that skips this request. FastAPI's own middlewares between the two are copied too, because they handle exceptions (a
    body that is too large). Another middleware there may handle any exception, so `inner` is returned unchanged.
    """
    if type(stack).__name__ != "ServerErrorMiddleware":
        return inner
    error_middleware = copied = copy.copy(stack)
    while copied.app is not inner:
        if not type(copied.app).__module__.startswith(_FRAMEWORK_MODULES):
            return inner
        copied.app = copied = copy.copy(copied.app)
    if stack.handler is not None:
        scope[_FIRST_REQUEST_KEY] = True
        stack.handler = _skip_first_request(stack.handler)
    app: App = error_middleware
    return app


def _skip_first_request(handler: Any) -> Any:
    """Return an error handler, sync or async like the original one, that ignores the first request."""
    call = getattr(handler, "__call__", None)  # noqa: B004  an object with an async __call__ is async
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call):

        async def handle_async(request: Any, error: Exception) -> Any:
            return None if _FIRST_REQUEST_KEY in request.scope else await handler(request, error)

        return handle_async

    def handle_sync(request: Any, error: Exception) -> Any:
        return None if _FIRST_REQUEST_KEY in request.scope else handler(request, error)

    return handle_sync

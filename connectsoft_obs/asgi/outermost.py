"""Standing outside everything: around the middleware stack that Starlette or FastAPI built.

`add_middleware` puts us inside the framework's error middleware, which writes the 500 of an unhandled exception where
we cannot see it. So the built stack is wrapped once: at the lifespan, or at the first request.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from connectsoft_obs.asgi.types import App, Receive, Scope, Send

_FIRST = "connectsoft_obs.first"

Handle = Callable[[App, Scope, Receive, Send], Awaitable[None]]


class Outermost:
    """An application's middleware stack with us around it. `app` is the stack, as middlewares name what they wrap.

    Args:
        handle: takes connections.
        live: takes the lifespans that follow the one which built the stack, if any: we have left the stack by then.
        app: the stack.
    """

    def __init__(self, handle: Handle, live: Handle, app: App) -> None:
        self._handle = handle
        self._live = live
        self.app = app

    # A plain function that gives back what is to be awaited: a coroutine around another one costs 0.4 us.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection, or one lifespan, from the outside."""
        kind = scope["type"]
        if kind in ("http", "websocket"):
            # What an instance holds is called by a name: `self._handle()` is looked up as a method.
            handle = self._handle
            return handle(self.app, scope, receive, send)
        if kind == "lifespan":
            live = self._live
            return live(self.app, scope, receive, send)
        return self.app(scope, receive, send)


def wrap_middleware_stack(application: Any, handle: Handle, live: Handle) -> App | None:
    """Wrap an application's built stack and give it back; None when there is none, or it is wrapped already."""
    stack: App | None = getattr(application, "middleware_stack", None)
    if stack is None or isinstance(stack, Outermost):
        return None
    application.middleware_stack = Outermost(handle, live, stack)
    return stack


def remove_inner_middleware(stack: Any, inner: Any) -> None:
    """Take a middleware out of a stack that it stands around by now: a coroutine less for each request and message."""
    passed: set[int] = set()
    while id(stack) not in passed:
        passed.add(id(stack))
        below: Any = getattr(stack, "app", None)
        if below is inner:
            stack.app = inner.app
            return
        stack = below


def wrap_error_middleware(stack: Any, inner: App, scope: Scope) -> App:
    """`inner` inside a copy of the framework's error middleware, for the one request that is in the old stack already.

    The copy writes the 500 through us. The original sees that a response has started and only raises again, but it would
    call the application's error handler a second time; for this request it does not.
    """
    if type(stack).__name__ != "ServerErrorMiddleware":
        return inner
    inside = copy.copy(stack)
    inside.app = inner
    if stack.handler is not None:
        scope[_FIRST] = True
        stack.handler = _once(stack.handler)
    page: App = inside
    return page


def _once(handler: Any) -> Any:
    """An error handler that leaves the first request to the copy; of the same kind, sync or async, as it was."""
    call = getattr(handler, "__call__", None)  # noqa: B004  an object with an async __call__ is async
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call):

        async def awaited(request: Any, error: Exception) -> Any:
            return None if _FIRST in request.scope else await handler(request, error)

        return awaited

    def called(request: Any, error: Exception) -> Any:
        return None if _FIRST in request.scope else handler(request, error)

    return called

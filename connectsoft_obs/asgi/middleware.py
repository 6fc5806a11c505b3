"""The one line: an ASGI middleware that observes an application and answers its endpoints."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any

from connectsoft_obs.asgi.coexistence import disable_other_instrumentation
from connectsoft_obs.asgi.endpoint_responder import EndpointResponder
from connectsoft_obs.asgi.instrumentation import OBSERVED_KEY, RequestInstrumentation
from connectsoft_obs.asgi.lifespan import Lifespan, fail_startup, start_without_lifespan
from connectsoft_obs.asgi.outermost import remove_inner_middleware, wrap_error_middleware, wrap_middleware_stack
from connectsoft_obs.asgi.route_template import Route
from connectsoft_obs.asgi.types import App, Receive, Scope, Send
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.telemetry import Telemetry, current, resolve


class ObservabilityMiddleware:
    """Gives an ASGI application liveness, readiness and startup endpoints, RED metrics, logs and traces.

    `app.add_middleware(ObservabilityMiddleware, service="orders-api")` for Starlette and FastAPI,
    `app = ObservabilityMiddleware(app, service="orders-api")` for any other. One instance serves any number of requests
    at once and holds nothing of them.

    The constructor never raises: a value that cannot work is reported as a failed start-up to the server's lifespan
    protocol, or by one CRITICAL line where there is none; requests then pass through untouched.

    Args:
        app: the application.
        telemetry: the Telemetry to use instead of the process's own.
        service: name of the service.
        namespace: family of services it belongs to.
        version: its version.
        environment: development, test, staging, production, or your own word.
        route: gives the route template of a scope for frameworks other than Starlette and FastAPI, None for no route.
        settings: any other field of `Settings`.
    """

    def __init__(
        self,
        app: App | None = None,
        /,
        *,
        telemetry: Telemetry | None = None,
        service: str | None = None,
        namespace: str | None = None,
        version: str | None = None,
        environment: str | None = None,
        route: Route | None = None,
        **settings: Any,
    ) -> None:
        # Positional for Starlette's typing (its factory protocol has `app, /`), by name for frameworks that call it so.
        self.app: App = settings.pop("app", app)
        self._telemetry = telemetry
        self._arguments = {
            "service": service, "namespace": namespace, "version": version, "environment": environment, **settings,
        }  # fmt: skip
        self._route = route
        self._bound: TelemetryBinding | None = None
        self._refused: ConfigurationError | None = None
        self._broken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        kind = scope["type"]
        if OBSERVED_KEY in scope:  # observed already: further out by this middleware, or by a parent application's
            await self.app(scope, receive, send)
        elif kind in ("http", "websocket"):
            stack = self._wrap(scope)
            app = self.app if stack is None else self._with_error_page(stack, scope)
            await self._http(app, scope, receive, send)
        elif kind == "lifespan":
            self._wrap(scope)
            await self._serve_liveness_only(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _http(self, app: App, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if OBSERVED_KEY in scope:
            return app(scope, receive, send)
        bound = self._bound
        if bound is None or bound.telemetry is not (self._telemetry or current()):
            bound = self._bind(scope)
            if bound is None:
                return app(scope, receive, send)
        try:
            path, answers = scope["path"], bound.answers
            known = path in answers.paths or path.startswith(answers.below) or scope.get("root_path")
            page = answers.page(scope) if known and scope["type"] == "http" else None
        except Exception as failure:  # noqa: BLE001  ours; the request is the application's
            bound.telemetry.internal_telemetry.record_error("asgi.page", failure)
            page = None
        if page is not None:
            return bound.answers.send(page, scope, send)
        if bound.disabled:
            scope[OBSERVED_KEY] = None  # further in there is nothing to decide
            return app(scope, receive, send)
        if bound.fresh:
            bound.fresh -= 1
            if not bound.fresh:
                self._install_outermost(self.app)  # by now an application that we wrap from outside has built its stack
        return bound.requests.handle(app, scope, receive, send)

    async def _serve_liveness_only(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        scope[OBSERVED_KEY] = None  # further in, should we stand in the stack as well, there is nothing to do
        telemetry = self._telemetry or self._resolve()
        if telemetry is None:
            if self._refused is None:  # a failure of ours is no reason to keep a service from starting
                await app(scope, receive, send)
                return
            await fail_startup(self._refused, receive, send)
            return
        await Lifespan(telemetry, lambda: self._install_outermost(self.app)).run(app, scope, receive, send)

    def _wrap(self, scope: Scope) -> App | None:
        """Go around the stack that the framework built, and switch off who observes requests inside it; once."""
        application = scope.get("app")
        try:
            stack = wrap_middleware_stack(application, self._http, self._serve_liveness_only)
        except Exception as failure:  # noqa: BLE001  ours; we stay where `add_middleware` has put us
            record_internal_error("asgi.middleware_stack", failure)
            return None
        if stack is not None:
            self._install_outermost(application)
            try:
                remove_inner_middleware(stack, self)
            except Exception as failure:  # noqa: BLE001  an odd stack; we stand in it twice and pass the second time
                record_internal_error("asgi.middleware_stack", failure)
        return stack

    def _with_error_page(self, stack: App, scope: Scope) -> App:
        """What is further in, for the request that is in the old stack already."""
        try:
            return wrap_error_middleware(stack, self.app, scope)
        except Exception as failure:  # noqa: BLE001  an odd stack; a 500 of this one request is written past us
            record_internal_error("asgi.middleware_stack", failure)
            return self.app

    @staticmethod
    def _install_outermost(application: Any) -> None:
        """Switch off who else observes requests inside an application."""
        try:
            disable_other_instrumentation(application)
        except Exception as failure:  # noqa: BLE001  ours, or an odd stack; the request is observed twice
            record_internal_error("asgi.disable_other_instrumentation", failure)

    def _resolve(self) -> Telemetry | None:
        """The Telemetry in force; None where its settings cannot work."""
        if self._refused is not None or self._broken:
            return None
        try:
            return resolve(**self._arguments)
        except Exception as error:  # noqa: BLE001  anything but a ConfigurationError is a failure of ours
            if isinstance(error, ConfigurationError):
                self._refused = error
            self._broken = True
            # Whoever has a lifespan is told there; a log that cannot be set up has one place left to say it.
            print(f"CRITICAL connectsoft_obs: {error}", file=sys.stderr)  # noqa: T201
            return None

    def _bind(self, scope: Scope) -> TelemetryBinding | None:
        """Decide anew for the Telemetry in force; None where there can be none."""
        telemetry = self._telemetry or self._resolve()
        if telemetry is None:
            return None
        try:
            bound = self._bound = TelemetryBinding(telemetry, self._route)
        except Exception as failure:  # noqa: BLE001  ours; requests pass through untouched, and the next one tries again
            telemetry.internal_telemetry.record_error("asgi.bind", failure)
            return None
        try:
            bound.answers.yield_paths_to_app(scope.get("app") or self.app)
        except Exception as failure:  # noqa: BLE001  ours, or an odd table of routes; the request goes on
            telemetry.internal_telemetry.record_error("asgi.routes", failure)
        try:
            start_without_lifespan(telemetry)
        except Exception as failure:  # noqa: BLE001  ours; the request goes on
            telemetry.internal_telemetry.record_error("asgi.lifespan", failure)
        return bound


class TelemetryBinding:
    """What a middleware does with one Telemetry, decided once."""

    __slots__ = ("answers", "disabled", "fresh", "requests", "telemetry")

    def __init__(self, telemetry: Telemetry, route: Route | None) -> None:
        self.telemetry: Telemetry = telemetry
        self.requests: RequestInstrumentation = RequestInstrumentation(telemetry, route)
        self.answers: EndpointResponder = EndpointResponder(telemetry)
        self.disabled: bool = telemetry.settings.disabled
        self.fresh: int = 2

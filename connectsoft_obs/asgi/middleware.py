"""The ASGI middleware that observes an application and serves the health, metrics and info endpoints."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any, Unpack

from connectsoft_obs.asgi.application_title import application_title
from connectsoft_obs.asgi.coexistence import disable_fastapi_of_stack, disable_other_instrumentation
from connectsoft_obs.asgi.endpoint_responder import EndpointResponder, send_response
from connectsoft_obs.asgi.instrumentation import OBSERVED_KEY, RequestInstrumentation
from connectsoft_obs.asgi.lifespan import Lifespan, fail_startup, start_without_lifespan
from connectsoft_obs.asgi.outermost import remove_inner_middleware, wrap_error_middleware, wrap_middleware_stack
from connectsoft_obs.asgi.route_template import RouteFunction
from connectsoft_obs.asgi.slo_routes import warn_unknown_slo_routes
from connectsoft_obs.asgi.types import App, Receive, Scope, Send
from connectsoft_obs.endpoints.request_response import DEGRADED_FALLBACK
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.internal_telemetry import guard, record_internal_error
from connectsoft_obs.settings import Settings, SettingsArguments, load_settings
from connectsoft_obs.telemetry import Telemetry, current, resolve, telemetry_holder

_DEFAULTS = Settings()
PROBE_PATHS = frozenset({
    _DEFAULTS.liveness_path, _DEFAULTS.liveness_path_alias, _DEFAULTS.readiness_path,
    _DEFAULTS.startup_path, _DEFAULTS.startup_path_alias,
})  # fmt: skip
"""Default paths of the probes, which are answered even if the Telemetry cannot be created."""


class ObservabilityMiddleware:
    """ASGI middleware that adds health, metrics and info endpoints, RED metrics, logs and traces to an application.

    `app.add_middleware(ObservabilityMiddleware, service="orders-api")` for Starlette and FastAPI,
    `app = ObservabilityMiddleware(app, service="orders-api")` for any other. One instance handles any number of
    concurrent requests and holds no per-request state.

    The constructor never raises. An invalid setting is reported as a failed startup to the server's lifespan protocol. If
    the server has none, it is reported by one CRITICAL line, and requests are passed through unchanged.

    Args:
        app: the application.
        telemetry: the Telemetry to use instead of the one of the process.
        service: name of the service.
        namespace: namespace of the service.
        version: version of the service.
        environment: deployment environment: development, test, staging, production, or another name.
        route: returns the route template of a scope, or None for no route. For frameworks whose templates are not
            found without it: docs/how-to/other-frameworks.md.
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
        route: RouteFunction | None = None,
        **settings: Unpack[SettingsArguments],
    ) -> None:
        # Positional for Starlette's typing (its factory protocol has `app, /`), by name for frameworks that pass a keyword.
        self._telemetry = telemetry
        self._arguments: dict[str, Any] = {
            "service": service, "namespace": namespace, "version": version, "environment": environment, **settings,
        }  # fmt: skip
        self.app: App = self._arguments.pop("app", app)
        self._route = route
        self._binding: TelemetryBinding | None = None
        self._configuration_error: ConfigurationError | None = None
        self._has_failed = False
        with guard("asgi.disable_other_instrumentation"):
            disable_fastapi_of_stack(self.app)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without objects of this process, for pickle, cloudpickle and `copy.deepcopy`."""
        return {**self.__dict__, "_binding": None}

    def load_settings(self, environ: Mapping[str, str]) -> Settings:
        """Load the settings from these environment variables and the arguments of the middleware; nothing is started.

        Raises:
            ConfigurationError: a setting is invalid.
        """
        if self._telemetry is not None:
            return self._telemetry.settings
        settings = load_settings(environ, **self._arguments)
        return replace(settings, application_title=application_title(self.app))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection or lifespan."""
        kind = scope["type"]
        if OBSERVED_KEY in scope:  # observed by this middleware in an outer layer, or by that of a parent application
            await self.app(scope, receive, send)
        elif kind in ("http", "websocket"):
            stack = self._wrap_middleware_stack(scope)
            app = self.app if stack is None else self._wrap_error_middleware(stack, scope)
            await self._handle_connection(app, scope, receive, send)
        elif kind == "lifespan":
            self._wrap_middleware_stack(scope)
            await self._handle_lifespan(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _handle_connection(self, app: App, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if OBSERVED_KEY in scope:
            return app(scope, receive, send)
        binding = self._binding
        if binding is None or binding.telemetry is not (self._telemetry or current()):
            binding = self._bind(scope)
            if binding is None:
                return self._handle_without_telemetry(app, scope, receive, send)
        try:
            path, endpoints = scope["path"], binding.endpoints
            may_have_page = path in endpoints.pages or path.startswith(endpoints.prefixes) or scope.get("root_path")
            page = endpoints.find_page(scope) if may_have_page and scope["type"] == "http" else None
        except Exception as failure:  # noqa: BLE001  an internal error; the application handles the request
            binding.telemetry.internal_telemetry.record_error("asgi.page", failure)
            page = None
        if page is not None:
            return binding.endpoints.send(page, scope, send)
        if binding.disabled:
            scope[OBSERVED_KEY] = None  # an inner ObservabilityMiddleware passes the request through
            return app(scope, receive, send)
        if binding.requests_until_recheck:
            binding.requests_until_recheck -= 1
            if not binding.requests_until_recheck:
                # An application that is wrapped from outside has built its middleware stack by now.
                self._disable_other_instrumentation(self.app)
        return binding.instrumentation.handle(app, scope, receive, send)

    async def _handle_without_telemetry(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application. After an internal error probes are answered, so that the service is not restarted."""
        has_internal_error = self._configuration_error is None
        if has_internal_error and scope["type"] == "http" and scope["path"].rstrip("/") in PROBE_PATHS:
            await send_response(DEGRADED_FALLBACK, scope, send)
        else:
            await app(scope, receive, send)

    async def _handle_lifespan(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        scope[OBSERVED_KEY] = None  # the middleware may be in the stack a second time
        telemetry = self._resolve_telemetry(scope)
        if telemetry is None:
            if self._configuration_error is None:  # an internal error does not prevent the service from starting
                await app(scope, receive, send)
                return
            await fail_startup(self._configuration_error, receive, send)
            return

        def on_stack_built() -> None:
            self._disable_other_instrumentation(self.app)
            self._warn_unknown_slo_routes(current_telemetry() or telemetry, scope, scope.get("root_path") or None)

        def current_telemetry() -> Telemetry | None:
            return self._telemetry or current()

        await Lifespan(telemetry, current_telemetry, on_stack_built).run(app, scope, receive, send)

    def _warn_unknown_slo_routes(self, telemetry: Telemetry, scope: Scope, root_path: str | None) -> None:
        if self._route is None:  # otherwise the route templates are not those of the table
            warn_unknown_slo_routes(telemetry, scope.get("app") or self.app, root_path)

    def _wrap_middleware_stack(self, scope: Scope) -> App | None:
        """Wrap the built stack of the framework once, and return it if this call has wrapped it."""
        application = scope.get("app")
        try:
            stack = wrap_middleware_stack(application, self._handle_connection, self._handle_lifespan)
        except Exception as failure:  # noqa: BLE001  an internal error; the middleware stays where it was added
            record_internal_error("asgi.middleware_stack", failure)
            return None
        if stack is not None:
            self._disable_other_instrumentation(application)
            with guard("asgi.middleware_stack"):  # on failure it stays in the stack and passes observed requests on
                remove_inner_middleware(stack, self)
        return stack

    def _wrap_error_middleware(self, stack: App, scope: Scope) -> App:
        """Return the application for the first request, which the server has passed to the stack before the change."""
        with guard("asgi.middleware_stack"):
            return wrap_error_middleware(stack, self.app, scope)
        return self.app  # a 500 of this one request is not observed

    @staticmethod
    def _disable_other_instrumentation(application: Any) -> None:
        """Disable other request instrumentation inside an application. On failure, requests are observed twice."""
        with guard("asgi.disable_other_instrumentation"):
            disable_other_instrumentation(application)

    def _resolve_telemetry(self, scope: Scope) -> Telemetry | None:
        """Return the current Telemetry, or None if it cannot be configured."""
        if self._configuration_error is not None or self._has_failed:
            self._report_configuration_error(scope)
            return None
        try:
            if self._route is not None and not callable(self._route):
                raise ConfigurationError(
                    f"route={self._route!r}",
                    "it is not a function",
                    "Pass a function that returns the route template of a scope.",
                )
            if self._telemetry is not None:
                return self._telemetry
            title = ""
            with guard("asgi.application_title"):
                title = application_title(scope.get("app") or self.app)
            if title:
                telemetry_holder().set_application_title(title)
            return resolve(**self._arguments)
        except ConfigurationError as error:
            self._configuration_error = error
            self._report_configuration_error(scope)
        except Exception as error:  # noqa: BLE001  an internal error; the application handles the request
            self._has_failed = True
            _print_critical(f"connectsoft_obs failed internally and is off: {type(error).__name__}: {error}")
        return None

    def _report_configuration_error(self, scope: Scope) -> None:
        """Print the error at the first request. At a failed startup, the server prints it."""
        if scope["type"] != "lifespan" and self._configuration_error is not None and not self._has_failed:
            self._has_failed = True
            _print_critical(f"invalid configuration of connectsoft_obs: {self._configuration_error}")

    def _bind(self, scope: Scope) -> TelemetryBinding | None:
        """Create the binding for the current Telemetry, or return None if there is no Telemetry or it fails.

        After a failure, requests are passed through unchanged and the next request tries again.
        """
        telemetry = self._resolve_telemetry(scope)
        if telemetry is None:
            return None
        internal_telemetry = telemetry.internal_telemetry
        binding: TelemetryBinding | None = None
        with internal_telemetry.guard("asgi.bind"):
            binding = self._binding = TelemetryBinding(telemetry, self.app, self._route)
        if binding is None:
            return None
        with internal_telemetry.guard("asgi.routes"):
            binding.endpoints.yield_paths_to_app(scope.get("app") or self.app)
            self._warn_unknown_slo_routes(telemetry, scope, scope.get("root_path", ""))
        with internal_telemetry.guard("asgi.lifespan"):
            start_without_lifespan(telemetry)
        return binding


def _print_critical(message: str) -> None:
    """Print to standard error, because the log may not be configured."""
    print(f"CRITICAL {message}", file=sys.stderr)  # noqa: T201


class TelemetryBinding:
    """The objects that a middleware uses with one Telemetry.

    After `requests_until_recheck` requests, the middleware searches for other instrumentation again.
    """

    __slots__ = ("disabled", "endpoints", "instrumentation", "requests_until_recheck", "telemetry")

    def __init__(self, telemetry: Telemetry, app: App, route: RouteFunction | None) -> None:
        self.telemetry: Telemetry = telemetry
        self.instrumentation: RequestInstrumentation = RequestInstrumentation(telemetry, app, route)
        self.endpoints: EndpointResponder = EndpointResponder(telemetry)
        self.disabled: bool = telemetry.settings.disabled
        self.requests_until_recheck: int = 2

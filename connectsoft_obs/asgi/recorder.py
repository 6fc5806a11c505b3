"""Records a finished request: histogram, SLO counter, span and access log line, all from the same timestamps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.access_log import AccessLog
from connectsoft_obs.asgi.bindings import FIXED_ATTRIBUTES, OTHER, BoundSeries, BoundSeriesCache
from connectsoft_obs.asgi.coexistence import AdoptedSpan
from connectsoft_obs.asgi.route_template import RouteFunction, RouteTemplates
from connectsoft_obs.asgi.types import App, Scope
from connectsoft_obs.signals.tracing import ExternalSpan, Span
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    CORRELATION_ID,
    ERROR_TYPE,
    HTTP_METHOD_ORIGINAL,
    HTTP_REQUEST_BODY_SIZE,
    HTTP_RESPONSE_BODY_SIZE,
    TIME_TO_FIRST_BYTE,
    URL_PATH,
    URL_QUERY,
)

if TYPE_CHECKING:
    from connectsoft_obs.asgi.request import HttpRequest
    from connectsoft_obs.asgi.request_attributes import RequestAttributeCache

_REQUESTS_UNTIL_WARNING = 10
"""Number of successful requests without a route, after which a warning is logged if no request had one."""


class RequestRecorder:
    """Records finished requests. Holds no per-request state; safe for concurrent requests.

    Args:
        telemetry: the Telemetry that receives the signals.
        app: the application, whose framework has the route templates.
        route: function of the application that returns the route template, used instead of the framework's.
        request_attributes: redacts queries.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        app: App,
        route: RouteFunction | None,
        request_attributes: RequestAttributeCache,
    ) -> None:
        settings = telemetry.settings
        self._internal_telemetry = telemetry.internal_telemetry
        self._provider = telemetry.tracing.provider
        self._access_log = AccessLog(telemetry)
        self._find_route: Callable[[Scope, str], str] = (
            RouteTemplates(app, partial(self._internal_telemetry.record_error, "asgi.route")).find
            if route is None
            else self._guard_route_function(route)
        )
        self._series = BoundSeriesCache(telemetry)
        self._requests_until_warning = _REQUESTS_UNTIL_WARNING
        self._request_attributes = request_attributes
        self._exemplars = settings.exemplar_filter != "always_off"
        self._record_exception_event = settings.exception_signal == "logs/dup"

    def record(self, request: HttpRequest, elapsed_ns: int, error: BaseException | None) -> None:
        """Record a request that has taken `elapsed_ns` and was ended by `error`, if any."""
        request.active_series.cells[0] -= 1.0
        find_route = self._find_route
        route = find_route(request.scope, request.root_path)
        series = None
        if request.error_type is None and not request.stream_kind:  # then route and status determine the series
            series = request.protocol.series_by_route.get((route, request.status))
        series = series or self._find_series(request, route)
        request.name = series.span_name
        seconds, now_ns = elapsed_ns / 1e9, request.wall_ns + elapsed_ns
        span = request.span
        if self._exemplars and span.flags & 1:
            series.duration.observe_with_exemplar(seconds, span.ids, now_ns)
        else:
            series.duration.observe(seconds)
        if series.slo_counter is not None:
            series.slo_counter(seconds)
        if error is not None:
            self._record_exception(request, error, now_ns)
        if type(span) is Span or type(span) is ExternalSpan:
            fixed_values, own = None, None
            if self._provider.has_consumers:
                first_byte_ns, size = request.first_byte_ns, request.response_body_size
                if first_byte_ns and size:
                    fixed_values = (request.path, (first_byte_ns - request.start_ns) / 1e9, size)
                own = self._own_attributes(request, series, fixed_values)
            span.finish(
                series.span_name,
                series.span_attributes,
                request.client.span_attributes,
                own,
                series.is_error,
                now_ns,
                fixed_values,
            )
        self._access_log.write(request, series, seconds, now_ns)
        if not route and self._requests_until_warning:
            self._warn_without_routes(request)

    def _record_exception(self, request: HttpRequest, error: BaseException, now_ns: int) -> None:
        span = request.span
        self._access_log.write_exception(request, error, now_ns)
        if self._record_exception_event and (type(span) is Span or type(span) is ExternalSpan):
            span.record_exception(error)
        elif type(span) is AdoptedSpan and request.error_type and span.span.is_recording():  # no 500 was sent inside
            span.span.set_attribute(ERROR_TYPE, request.error_type)

    def _warn_without_routes(self, request: HttpRequest) -> None:
        """Log one warning if the first successful requests have no route: they all share one series."""
        if not 200 <= request.status < 300 or request.protocol.method == "OPTIONS":  # a preflight has no route
            return
        self._requests_until_warning -= 1
        if not self._requests_until_warning and not any(key[4] for key in list(self._series.by_key)):
            self._internal_telemetry.warn_once(
                ("asgi.route", ""),
                "no request has a route template, so all requests share one series; pass route= to the middleware",
                {"requests": _REQUESTS_UNTIL_WARNING, "instead": "route=, as in docs/how-to/other-frameworks.md"},
            )

    def _find_series(self, request: HttpRequest, route: str) -> BoundSeries:
        protocol = request.protocol
        key = (
            protocol.method, protocol.scheme, protocol.version, request.status,
            route, request.error_type, request.stream_kind, request.outcome,
        )  # fmt: skip
        series = self._series.by_key.get(key) or self._series.bind(key)
        if request.error_type is None and not request.stream_kind and key in self._series.by_key:
            protocol.series_by_route[route, request.status] = series
        return series

    def _own_attributes(self, request: HttpRequest, series: BoundSeries, fixed_values: object) -> dict[str, Any] | None:
        """Return the span attributes that this request does not share with others, without `FIXED_ATTRIBUTES`.

        If `fixed_values` is None, one of the fixed attributes is missing; the others are returned too.
        """
        scope = request.scope
        query = scope.get("query_string")
        if fixed_values is not None and not (
            query
            or request.request_body_size
            or request.bound_attributes
            or request.correlation_id is not None
            or request.captured_headers is not None
            or request.message_counts is not None
            or request.protocol.method is OTHER
        ):
            return None
        own = self._available_fixed_attributes(request) if fixed_values is None else {}
        if query:
            own[URL_QUERY] = self._request_attributes.redact_query(query)
        if request.request_body_size:
            own[HTTP_REQUEST_BODY_SIZE] = request.request_body_size
        if request.correlation_id is not None:
            own[CORRELATION_ID] = request.correlation_id
        if request.captured_headers is not None:
            own |= request.captured_headers
        if request.message_counts is not None:
            own |= request.message_counts
        if request.protocol.method is OTHER:
            own[HTTP_METHOD_ORIGINAL] = scope["method"]
        if request.bound_attributes:  # attributes that the application binds do not replace standard ones
            standard = {
                *series.span_attributes.attributes,
                *request.client.span_attributes.attributes,
                *FIXED_ATTRIBUTES.keys,
            }
            own |= {key: value for key, value in request.bound_attributes.items() if key not in standard}
        return own

    @staticmethod
    def _available_fixed_attributes(request: HttpRequest) -> dict[str, Any]:
        attributes: dict[str, Any] = {URL_PATH: request.path}
        if request.first_byte_ns:
            attributes[TIME_TO_FIRST_BYTE] = (request.first_byte_ns - request.start_ns) / 1e9
        if request.response_body_size:
            attributes[HTTP_RESPONSE_BODY_SIZE] = request.response_body_size
        return attributes

    def _guard_route_function(self, route: RouteFunction) -> Callable[[Scope, str], str]:
        """Wrap the application's route function: an exception is recorded, and the request has no route."""

        def find_route(scope: Scope, _: str) -> str:
            try:
                return route(scope) or ""
            except Exception as failure:  # noqa: BLE001  raised by the application's function; the request is complete
                self._internal_telemetry.record_error("asgi.route", failure)
                return ""

        return find_route

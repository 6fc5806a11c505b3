"""The end of a request: one sample, one span, one line, from one pair of clock reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.access_log import AccessLog
from connectsoft_obs.asgi.bindings import FIXED_ATTRIBUTES, OTHER, BoundSeries, BoundSeriesCache
from connectsoft_obs.asgi.route_template import Route, RouteTemplates
from connectsoft_obs.asgi.types import Scope
from connectsoft_obs.signals.tracing import Span
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    CORRELATION_ID,
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


class RequestRecorder:
    """Says what became of requests. Holds nothing of one; safe for any number at once.

    Args:
        telemetry: where it is said.
        route: the user's own look-up of templates.
        addresses: knows what of a query may be said.
    """

    def __init__(self, telemetry: Telemetry, route: Route | None, addresses: RequestAttributeCache) -> None:
        settings = telemetry.settings
        self._internal_telemetry = telemetry.internal_telemetry
        self._provider = telemetry.tracing.provider
        self._lines = AccessLog(telemetry)
        self._templates: Callable[[Scope, str], str] = RouteTemplates().find if route is None else self._given(route)
        self._kinds = BoundSeriesCache(telemetry)
        self._addresses = addresses
        self._exemplars = settings.exemplar_filter != "always_off"
        self._exception_event = settings.exception_signal == "logs/dup"

    def record(self, exchange: HttpRequest, elapsed_ns: int, error: BaseException | None) -> None:
        """The request is over, after so many nanoseconds."""
        exchange.active.cells[0] -= 1.0
        template = self._templates
        route = template(exchange.scope, exchange.root)
        recorded = None
        if exchange.error_type is None and not exchange.stream:  # then template and status decide about the rest
            recorded = exchange.manner.kinds.get((route, exchange.status))
        recorded = recorded or self._kind(exchange, route)
        exchange.name = recorded.title
        seconds, now = elapsed_ns / 1e9, exchange.wall_ns + elapsed_ns
        span = exchange.span
        if self._exemplars and span.flags & 1:
            recorded.duration.observe_with_exemplar(seconds, span.ids, now)
        else:
            recorded.duration.observe(seconds)
        if recorded.count is not None:
            recorded.count(seconds)
        if error is not None:
            self._lines.exception(exchange, error)
            if self._exception_event and type(span) is Span:
                span.record_exception(error)
        if type(span) is Span:
            row, own = None, None
            if self._provider.heard:
                first, sent = exchange.first_ns, exchange.sent
                if first and sent:
                    row = (exchange.scope["path"], (first - exchange.start_ns) / 1e9, sent)
                own = self._own(exchange, recorded, row)
            span.finish(recorded.title, recorded.shared, exchange.caller.shared, own, recorded.bad, now, row)
        self._lines.access(exchange, recorded, seconds, now)

    def _kind(self, exchange: HttpRequest, route: str) -> BoundSeries:
        manner = exchange.manner
        key = (
            manner.method, manner.scheme, manner.version, exchange.status,
            route, exchange.error_type, exchange.stream, exchange.outcome,
        )  # fmt: skip
        recorded = self._kinds.known.get(key) or self._kinds.bind(key)
        if exchange.error_type is None and not exchange.stream and key in self._kinds.known:
            manner.kinds[route, exchange.status] = recorded
        return recorded

    def _own(self, exchange: HttpRequest, recorded: BoundSeries, row: object) -> dict[str, Any] | None:
        """Span attributes that only this request has, beyond those of a row."""
        scope = exchange.scope
        query = scope.get("query_string")
        if row is not None and not (
            query
            or exchange.received
            or exchange.bound_attributes
            or exchange.correlation_id is not None
            or exchange.recorded_headers is not None
            or exchange.counts is not None
            or exchange.manner.method is OTHER
        ):
            return None
        own = self._without_row(exchange) if row is None else {}
        if query:
            own[URL_QUERY] = self._addresses.query(query)
        if exchange.received:
            own[HTTP_REQUEST_BODY_SIZE] = exchange.received
        if exchange.correlation_id is not None:
            own[CORRELATION_ID] = exchange.correlation_id
        if exchange.recorded_headers is not None:
            own |= exchange.recorded_headers
        if exchange.counts is not None:
            own |= exchange.counts
        if exchange.manner.method is OTHER:
            own[HTTP_METHOD_ORIGINAL] = scope["method"]
        if exchange.bound_attributes:  # what users bind does not replace what the standard says
            said = {**recorded.shared.items, **exchange.caller.shared.items, **dict.fromkeys(FIXED_ATTRIBUTES.keys)}
            own |= {key: fact for key, fact in exchange.bound_attributes.items() if key not in said}
        return own

    @staticmethod
    def _without_row(exchange: HttpRequest) -> dict[str, Any]:
        """What `ROW` would say, where not all of it is known."""
        own: dict[str, Any] = {URL_PATH: exchange.scope["path"]}
        if exchange.first_ns:
            own[TIME_TO_FIRST_BYTE] = (exchange.first_ns - exchange.start_ns) / 1e9
        if exchange.sent:
            own[HTTP_RESPONSE_BODY_SIZE] = exchange.sent
        return own

    def _given(self, route: Route) -> Callable[[Scope, str], str]:
        """The user's own look-up of templates; one that fails costs the template and nothing else."""

        def template(scope: Scope, _: str) -> str:
            try:
                return route(scope) or ""
            except Exception as failure:  # noqa: BLE001  the user's, but the request is over
                self._internal_telemetry.record_error("asgi.route", failure)
                return ""

        return template

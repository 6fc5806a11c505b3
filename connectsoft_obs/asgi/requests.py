"""The request path of one middleware and one Telemetry: what is decided at construction, then begin, start, settle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter_ns, time_ns
from typing import Any

from opentelemetry.context import detach
from opentelemetry.trace import Link, SpanKind

from connectsoft_obs.asgi import foreign
from connectsoft_obs.asgi.addresses import Addresses
from connectsoft_obs.asgi.captured import Captured
from connectsoft_obs.asgi.conversation import Conversation
from connectsoft_obs.asgi.exchange import EVENT_STREAM, Exchange, closing, with_header
from connectsoft_obs.asgi.lines import Lines
from connectsoft_obs.asgi.recorded import Kinds
from connectsoft_obs.asgi.routes import Route, Templates
from connectsoft_obs.asgi.types import App, Message, Receive, Scope, Send
from connectsoft_obs.context import NOTHING, Inbound, enter
from connectsoft_obs.signals.metrics import Number
from connectsoft_obs.signals.tracing import Span, Unsampled
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    ACTIVE_REQUESTS,
    CORRELATION_ID,
    HTTP_METHOD,
    HTTP_METHOD_ORIGINAL,
    HTTP_METHODS,
    HTTP_REQUEST_BODY_SIZE,
    HTTP_REQUEST_HEADER,
    HTTP_RESPONSE_BODY_SIZE,
    HTTP_RESPONSE_HEADER,
    STREAM_ACTIVE,
    TENANT_ID,
    TIME_TO_FIRST_BYTE,
    URL_SCHEME,
    ErrorType,
)

MARK = "connectsoft_obs"
"""Key of the scope that tells a second middleware of ours that the request is already observed."""

_OTHER = ErrorType.OTHER.value
_IDENTITY = frozenset({b"traceparent", b"tracestate", b"baggage", b"x-correlation-id", b"x-request-id"})
_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_KEEPS_ALIVE = ("1.1", "1.0")
_NO_LINKS: tuple[Link, ...] = ()
_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})


class Requests:
    """Observes requests and WebSockets. Holds nothing of a request; safe for any number at once."""

    def __init__(self, telemetry: Telemetry, route: Route | None) -> None:
        settings = telemetry.settings
        metrics = telemetry.metrics
        self._telemetry = telemetry
        self._tracer = telemetry.tracing.tracer
        self._propagation = telemetry.propagation
        self._lines = Lines(telemetry)
        self._templates: Callable[[Scope, str], str] = Templates().of if route is None else self._given(route)
        self._kinds = Kinds(telemetry)
        self._known = self._kinds.known
        self._active = metrics.family(ACTIVE_REQUESTS)
        self._streams = metrics.family(STREAM_ACTIVE)
        self._methods = frozenset(settings.known_methods) if settings.known_methods else HTTP_METHODS
        self._addresses = Addresses(settings, telemetry.logs.clean)
        secrets = settings.sanitized_headers
        # None instead of what would answer "nothing": asking costs, and is asked of each request.
        self._request_headers = Captured(HTTP_REQUEST_HEADER, settings.request_headers, secrets) or None
        self._response_headers = Captured(HTTP_RESPONSE_HEADER, settings.response_headers, secrets) or None
        self._behind_proxies = bool(settings.trusted_proxies)
        self._provider = telemetry.tracing.provider
        self._in_flight: dict[tuple[str, str], Number] = {}
        self._active.number("GET", "http")  # there at zero, before the first request
        self._tenant = settings.tenant_header.lower().encode() if settings.tenant_header else None
        self._trust = settings.trust_inbound
        self._exemplars = settings.exemplar_filter != "always_off"
        self._exception_event = settings.exception_signal == "logs/dup"
        self._health = telemetry.health
        self._other_propagators = bool({*settings.propagators} - {"tracecontext", "baggage", "none"})

    async def handle(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for one connection, observed; whatever it raises is raised."""
        kind = Conversation if scope["type"] == "websocket" else Exchange
        try:
            exchange = kind(self, scope, receive, send)
            token = self._begin(exchange)
        except Exception as failure:  # noqa: BLE001  ours; the request goes on without us
            self.failed("asgi.begin", failure)
            await app(scope, receive, send)
            return
        try:
            await app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            try:
                exchange.ended(error)
            except Exception as failure:  # noqa: BLE001  ours; what escaped from the application escapes as it is
                self.failed("asgi.end", failure)
            raise
        else:
            try:
                exchange.ended(None)
            except Exception as failure:  # noqa: BLE001  ours; the request is over and stays as it was
                self.failed("asgi.end", failure)
        finally:
            detach(token)
            # Without these references the exchange is no cycle, neither by itself nor by way of the server's objects that
            # send for it, and is freed here and not by a collection later: memory that comes back at once is still in
            # the processor's cache, which is half of what a request costs (tests/bench/wire.py).
            scope[MARK] = None
            del exchange.scope, exchange.context

    def failed(self, where: str, error: BaseException) -> None:
        """Account for an error of ours."""
        self._telemetry.ledger.error(where, error)

    def _begin(self, exchange: Exchange) -> Any:
        scope = exchange.scope
        exchange.headers = headers = dict(scope["headers"])
        method = scope.get("method", "GET")  # a WebSocket's handshake is always a GET
        exchange.method = method if method in self._methods else _OTHER
        scheme, version = scope.get("scheme", "http"), scope.get("http_version", "")
        exchange.scheme = scheme if scheme in _SCHEMES else _OTHER
        exchange.version = version if version in _VERSIONS else ""
        peer = scope.get("client")
        if peer:
            exchange.client = peer[0]
            if self._behind_proxies:
                self._addresses.see(exchange)
        if self._request_headers is not None:
            exchange.recorded_headers = self._request_headers.of(scope["headers"])
        if self._other_propagators or not _IDENTITY.isdisjoint(headers):
            inbound = self._propagation.read(scope["headers"])
            exchange.correlation_id = inbound.correlation_id
            if inbound.base and self._trust:
                exchange.facts = self._propagation.facts(inbound.base)
        else:
            inbound = NOTHING
        if self._tenant is not None and (tenant := headers.get(self._tenant)):
            exchange.facts = {**(exchange.facts or {}), TENANT_ID: tenant[:256].decode("latin-1")}
        exchange.wall_ns, exchange.start_ns = time_ns(), perf_counter_ns()
        adopted = foreign.present(scope)
        foreign.hush(scope)
        if adopted is not None:
            exchange.span = adopted
            token, exchange.context = enter(exchange, adopted.span)
        else:
            exchange.span = span = self._open(exchange, inbound)
            token, exchange.context = enter(exchange, span, inbound.base if self._trust else NOTHING.base)
        scope[MARK] = exchange
        exchange.active = active = (
            self._streams.number(exchange.stream)
            if exchange.stream
            else self._in_flight.get((exchange.method, exchange.scheme))
            or self._first_of(exchange.method, exchange.scheme)
        )
        active.cells[0] += 1.0
        return token

    def _first_of(self, method: str, scheme: str) -> Number:
        """The gauge of requests in flight of one kind, bound once; both are from short lists."""
        number = self._in_flight[method, scheme] = self._active.number(method, scheme)
        return number

    def _open(self, exchange: Exchange, inbound: Inbound) -> Span | Unsampled:
        parent, links = inbound.parent, _NO_LINKS
        if parent is not None and not self._trust:
            links, parent = (Link(parent),), None
        return self._tracer.open(
            "HTTP" if exchange.method == _OTHER else exchange.method,
            SpanKind.SERVER,
            parent,
            exchange.wall_ns,
            partial(self._initial, exchange) if self._provider.watched else None,
            None,
            links,
        )

    def started(self, exchange: Exchange, message: Message) -> Message:
        """The response starts: give it its correlation id, and see whether it is an event stream."""
        carries = False
        headers = message.get("headers") or ()
        for name, value in headers:
            length = len(name)  # cheaper to ask for than the name in small letters
            if length == 12:
                if value[:17].lower() == EVENT_STREAM and name.lower() == b"content-type":
                    self._becomes_stream(exchange)
            elif length == 16 and name.lower() == b"x-correlation-id":
                carries = True
        if self._response_headers is not None:
            found = self._response_headers.of(headers)
            exchange.recorded_headers = {**(exchange.recorded_headers or {}), **found}
        if type(exchange.span) is foreign.Adopted:
            # It ends with the last byte, before we settle; so it is told now what is known.
            exchange.span.span.set_attributes({**self._addresses.of_span(exchange), **(exchange.facts or {})})
        if self._health.draining and exchange.version in _KEEPS_ALIVE:
            message = closing(message)
        if carries:
            return message
        correlation = exchange.correlation_id or exchange.span.hex[0]
        return with_header(message, b"x-correlation-id", correlation.encode("latin-1"))

    def settled(self, exchange: Exchange, elapsed_ns: int, error: BaseException | None) -> None:
        """The request is over: one sample, one span, one line, from one pair of clock reads."""
        exchange.active.cells[0] -= 1.0
        route = self._templates(exchange.scope, exchange.root)
        key = (
            exchange.method, exchange.scheme, exchange.version, exchange.status,
            route, exchange.error_type, exchange.stream, exchange.outcome,
        )  # fmt: skip
        recorded = self._known.get(key) or self._kinds.bind(key)
        exchange.name = recorded.title
        seconds = elapsed_ns / 1e9
        span = exchange.span
        bucket = recorded.duration.observe(seconds)
        if recorded.count is not None:
            recorded.count(seconds)
        if self._exemplars and span.flags & 1:
            recorded.duration.exemplify(bucket, seconds, span.trace_id, span.span_id)
        if error is not None:
            self._lines.exception(exchange, error)
            if self._exception_event and type(span) is Span:
                span.record_exception(error)
        caller = self._addresses.caller(exchange)
        if type(span) is Span:
            own = self._own(exchange) if self._provider.heard else {}
            if exchange.facts:  # what users bind does not replace what the standard says
                said = {**recorded.shared.items, **caller.shared.items}
                own |= {key: fact for key, fact in exchange.facts.items() if key not in said}
            span.finish(
                recorded.title, recorded.shared, caller.shared, own, recorded.bad, exchange.wall_ns + elapsed_ns
            )
        self._lines.access(exchange, recorded, caller, elapsed_ns)

    def _initial(self, exchange: Exchange) -> dict[str, Any]:
        """What a sampler may look at."""
        found: dict[str, Any] = {HTTP_METHOD: exchange.method, URL_SCHEME: exchange.scheme}
        return found | (exchange.recorded_headers or {}) | self._addresses.of_span(exchange)

    def _own(self, exchange: Exchange) -> dict[str, Any]:
        """Span attributes that only this request has."""
        own = self._addresses.asked(exchange)
        if exchange.method == _OTHER:
            own[HTTP_METHOD_ORIGINAL] = exchange.scope["method"]
        if exchange.first_ns:
            own[TIME_TO_FIRST_BYTE] = (exchange.first_ns - exchange.start_ns) / 1e9
        if exchange.sent:
            own[HTTP_RESPONSE_BODY_SIZE] = exchange.sent
        if exchange.received:
            own[HTTP_REQUEST_BODY_SIZE] = exchange.received
        if exchange.correlation_id is not None:
            own[CORRELATION_ID] = exchange.correlation_id
        if exchange.recorded_headers is not None:
            own |= exchange.recorded_headers
        if exchange.counts is not None:
            own |= exchange.counts
        return own

    def _given(self, route: Route) -> Callable[[Scope, str], str]:
        """The user's own look-up of templates; one that fails costs the template and nothing else."""

        def template(scope: Scope, _: str) -> str:
            try:
                return route(scope) or ""
            except Exception as failure:  # noqa: BLE001  the user's, but the request is over
                self.failed("asgi.route", failure)
                return ""

        return template

    def _becomes_stream(self, exchange: Exchange) -> None:
        if not exchange.stream:
            exchange.stream = "sse"
            exchange.active.add(-1)
            exchange.active = self._streams.number("sse")
            exchange.active.add(1)

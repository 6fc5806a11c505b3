"""The request path of one middleware and one Telemetry: what is decided at construction, then begin and start."""

from __future__ import annotations

import sys
from binascii import hexlify
from functools import partial
from time import perf_counter_ns, time_ns
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from connectsoft_obs.asgi import coexistence
from connectsoft_obs.asgi.bindings import RequestProtocolCache
from connectsoft_obs.asgi.header_capture import HeaderCapture
from connectsoft_obs.asgi.recorder import RequestRecorder
from connectsoft_obs.asgi.request import EVENT_STREAM, HttpRequest, closing
from connectsoft_obs.asgi.request_attributes import RequestAttributeCache
from connectsoft_obs.asgi.route_template import Route
from connectsoft_obs.asgi.types import App, Message, Receive, Scope, Send
from connectsoft_obs.asgi.websocket import WebSocketRequest
from connectsoft_obs.context import EMPTY_INBOUND, OPERATION, SPAN, Inbound, context_with, otel_context
from connectsoft_obs.signals.tracing import FLAGS, NonRecordingSpan, Span
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    HTTP_METHOD,
    HTTP_REQUEST_HEADER,
    HTTP_RESPONSE_HEADER,
    STREAM_ACTIVE,
    TENANT_ID,
    URL_SCHEME,
)

_loaded = sys.modules
_FASTAPI: Final = coexistence.FASTAPI
_STARLETTE: Final = coexistence.STARLETTE
_Adopted: Final = coexistence.AdoptedSpan

OBSERVED_KEY = "connectsoft_obs"
"""Key of the scope that tells a second middleware of ours that the request is already observed."""

_SERVER: Final = SpanKind.SERVER
_IDENTITY = frozenset({b"traceparent", b"tracestate", b"baggage", b"x-correlation-id", b"x-request-id"})
_KEEPS_ALIVE = ("1.1", "1.0")
_NO_LINKS: tuple[Link, ...] = ()
_T = frozenset(b"tT")


class RequestInstrumentation:
    """Observes requests and WebSockets. Holds nothing of a request; safe for any number at once."""

    def __init__(self, telemetry: Telemetry, route: Route | None) -> None:
        settings = telemetry.settings
        self._telemetry = telemetry
        self._tracer = telemetry.tracing.tracer
        self._provider = telemetry.tracing.provider
        self._propagation = telemetry.propagation
        self._health = telemetry.health
        self._manners = RequestProtocolCache(telemetry)
        self._known_manners = self._manners.known
        self._streams = telemetry.metrics.family(STREAM_ACTIVE)
        self._addresses = RequestAttributeCache(settings, telemetry.logs)
        self._known_callers = self._addresses.known
        self.recorder: RequestRecorder = RequestRecorder(telemetry, route, self._addresses)
        secrets = settings.sanitized_headers
        # None instead of what would answer "nothing": asking costs, and is asked of each request.
        self._request_headers = (
            HeaderCapture(HTTP_REQUEST_HEADER, settings.request_headers, secrets, telemetry.logs.redaction) or None
        )
        self._response_headers = (
            HeaderCapture(HTTP_RESPONSE_HEADER, settings.response_headers, secrets, telemetry.logs.redaction) or None
        )
        self._behind_proxies = bool(settings.trusted_proxies)
        self._tenant = settings.tenant_header.lower().encode() if settings.tenant_header else None
        self._trust = settings.trust_inbound
        self._other_propagators = bool({*settings.propagators} - {"tracecontext", "baggage", "none"})

    async def handle(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for one connection, observed; whatever it raises is raised."""
        kind = HttpRequest if scope["type"] == "http" else WebSocketRequest
        try:
            exchange = kind.create(self, scope, receive, send)
            token = self._begin(exchange, scope)
        except Exception as failure:  # noqa: BLE001  ours; the request goes on without us
            self.on_error("asgi.begin", failure)
            await app(scope, receive, send)
            return
        try:
            await app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            try:
                exchange.on_app_exit(error)
            except Exception as failure:  # noqa: BLE001  ours; what escaped from the application escapes as it is
                self.on_error("asgi.end", failure)
            raise
        else:
            if exchange.outcome is None:
                try:
                    exchange.on_app_exit(None)
                except Exception as failure:  # noqa: BLE001  ours; the request is over and stays as it was
                    self.on_error("asgi.end", failure)
        finally:
            try:
                otel_context.reset(token)
            except ValueError:
                otel_context.detach(token)
            # Without these references the exchange is no cycle, neither by itself nor by way of the server's objects that
            # send for it, and is freed here and not by a collection later: memory that comes back at once is still in
            # the processor's cache, which is half of what a request costs (tests/bench/throughput.py).
            scope[OBSERVED_KEY] = None
            del exchange.scope, exchange.context

    def on_error(self, where: str, error: BaseException) -> None:
        """Account for an error of ours."""
        self._telemetry.internal_telemetry.record_error(where, error)

    def _begin(self, exchange: HttpRequest, scope: Scope) -> Any:
        headers = dict(scope["headers"])
        peer = scope.get("client")
        if self._behind_proxies:
            original = self._addresses.original(peer, headers)
            manner = self._manners.find(scope, original.scheme)
            exchange.caller = self._addresses.caller(peer, headers, original)
        else:
            try:  # what is known costs less without a call
                manner = self._known_manners[scope["method"], scope["scheme"], scope["http_version"]]
                exchange.caller = self._known_callers[peer, headers.get(b"host"), headers.get(b"user-agent")]
            except (KeyError, TypeError):
                manner = self._manners.find(scope)
                exchange.caller = self._addresses.caller(peer, headers)
        exchange.manner = manner
        if self._request_headers is not None:
            exchange.recorded_headers = self._request_headers.collect(scope["headers"])
        if self._other_propagators or not _IDENTITY.isdisjoint(headers):
            inbound = self._read(exchange, scope, headers)
        else:
            inbound = EMPTY_INBOUND
        if self._tenant is not None and (tenant := headers.get(self._tenant)):
            exchange.bound_attributes = {**(exchange.bound_attributes or {}), TENANT_ID: tenant[:256].decode("latin-1")}
        exchange.wall_ns = wall_ns = time_ns()
        exchange.start_ns = perf_counter_ns()
        exchange.outer = here = otel_context.get_current()
        adopted = coexistence.find_active_server_span(scope, here) if here or _FASTAPI in scope else None
        if "fastapi" in _loaded or _STARLETTE in _loaded:
            coexistence.mark_observed(scope)
        span: Span | NonRecordingSpan | coexistence.AdoptedSpan
        if adopted is not None:
            span = adopted
            context = context_with(exchange, adopted.span, here)
        elif inbound is EMPTY_INBOUND and not self._provider.watched:
            span = self._tracer.start_fast(manner.name, _SERVER, None, wall_ns)
            context = Context({OPERATION: exchange, SPAN: span})  # as `within`, on top of nothing
        else:
            span = self._open(exchange, inbound)
            context = context_with(exchange, span, inbound.base if self._trust else EMPTY_INBOUND.base)
        exchange.span = span
        exchange.context = context
        digits = hexlify(span.ids)
        exchange.digits = (digits[:32], digits[32:], FLAGS[span.flags])
        scope[OBSERVED_KEY] = exchange
        exchange.active = active = manner.active
        active.cells[0] += 1.0
        return otel_context.attach(context)

    def _read(self, exchange: HttpRequest, scope: Scope, headers: dict[bytes, bytes]) -> Inbound:
        whole = scope["headers"]
        once = isinstance(whole, list) and len(headers) == len(whole)  # ASGI allows any iterable
        inbound = self._propagation.read_unique(headers) if once else self._propagation.read(whole)
        exchange.correlation_id = inbound.correlation_id
        if inbound.base and self._trust:
            exchange.bound_attributes = self._propagation.bindings(inbound.base)
        return inbound

    def _open(self, exchange: HttpRequest, inbound: Inbound) -> Span | NonRecordingSpan:
        parent, links = inbound.parent, _NO_LINKS
        if parent is not None and not self._trust:
            links, parent = (Link(parent),), None
        initial = partial(self._initial, exchange) if self._provider.watched else None
        return self._tracer.start_fast(exchange.manner.name, _SERVER, parent, exchange.wall_ns, initial, None, links)

    def on_response_start(self, exchange: HttpRequest, message: Message) -> Message:
        """The response starts: give it its correlation id, and see whether it is an event stream."""
        carries = False
        headers = message.get("headers") or ()
        for name, value in headers:
            length = len(name)  # cheaper to ask for than the name in small letters
            if length == 12:
                if value and value[0] in _T and value[:17].lower() == EVENT_STREAM and name.lower() == b"content-type":
                    self._becomes_stream(exchange)
            elif length == 16 and name.lower() == b"x-correlation-id":
                carries = True
        span = exchange.span
        if self._response_headers is not None:
            found = self._response_headers.collect(headers)
            exchange.recorded_headers = {**(exchange.recorded_headers or {}), **found}
        if type(span) is _Adopted:
            # It ends with the last byte, before we settle; so it is told now what is known.
            span.span.set_attributes({**self._of_span(exchange), **(exchange.bound_attributes or {})})
        if self._health.draining and exchange.manner.version in _KEEPS_ALIVE:
            message = closing(message)
            headers = message["headers"]
        if carries:
            return message
        correlation = exchange.correlation_id
        own = correlation.encode("latin-1") if correlation else exchange.digits[0]
        return {**message, "headers": [*headers, (b"x-correlation-id", own)]}

    def _initial(self, exchange: HttpRequest) -> dict[str, Any]:
        """What a sampler may look at."""
        found: dict[str, Any] = {HTTP_METHOD: exchange.manner.method, URL_SCHEME: exchange.manner.scheme}
        return found | (exchange.recorded_headers or {}) | self._of_span(exchange)

    def _of_span(self, exchange: HttpRequest) -> dict[str, Any]:
        """Who asks for what, for whoever looks at a span before it ends."""
        return {**self._addresses.url_attributes(exchange.scope), **exchange.caller.shared.items}

    def _becomes_stream(self, exchange: HttpRequest) -> None:
        if not exchange.stream:
            exchange.stream = "sse"
            exchange.active.add(-1)
            exchange.active = self._streams.number("sse")
            exchange.active.add(1)

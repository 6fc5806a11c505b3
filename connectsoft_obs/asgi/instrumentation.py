"""Instrumentation of requests for one middleware and one Telemetry: start of the request and start of the response."""

from __future__ import annotations

import sys
from binascii import hexlify
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns, time_ns
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from connectsoft_obs.asgi import coexistence
from connectsoft_obs.asgi.bindings import RequestProtocolCache
from connectsoft_obs.asgi.header_capture import HeaderCapture
from connectsoft_obs.asgi.recorder import RequestRecorder
from connectsoft_obs.asgi.request import EVENT_STREAM, HttpRequest
from connectsoft_obs.asgi.request_attributes import RequestAttributeCache
from connectsoft_obs.asgi.response_messages import with_connection_close
from connectsoft_obs.asgi.route_template import RouteFunction
from connectsoft_obs.asgi.types import App, Message, Receive, Scope, Send
from connectsoft_obs.asgi.websocket import WebSocketRequest
from connectsoft_obs.context import EMPTY_INBOUND, OPERATION_KEY, SPAN_KEY, Inbound, context_with, otel_context
from connectsoft_obs.signals.tracing import FLAGS_HEX, ExternalSpan, NonRecordingSpan, Span, api_span
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    ERROR_TYPE,
    HTTP_METHOD,
    HTTP_REQUEST_HEADER,
    HTTP_RESPONSE_HEADER,
    STREAM_ACTIVE,
    TENANT_ID,
    URL_SCHEME,
)

_modules = sys.modules
_FASTAPI_SPAN_KEY: Final = coexistence.FASTAPI_SPAN_KEY
_STARLETTE_MODULE: Final = coexistence.STARLETTE_MODULE
_AdoptedSpan: Final = coexistence.AdoptedSpan

OBSERVED_KEY = "connectsoft_obs"
"""Key in the ASGI scope of a request that is observed already, for a second `ObservabilityMiddleware` further in."""

_SERVER: Final = SpanKind.SERVER
_PROPAGATION_HEADERS = frozenset({b"traceparent", b"tracestate", b"baggage", b"x-correlation-id", b"x-request-id"})
_HTTP_1_VERSIONS = ("1.1", "1.0")
_NO_LINKS: tuple[Link, ...] = ()
_LETTER_T = frozenset(b"tT")


class RequestInstrumentation:
    """Observes HTTP requests and WebSocket connections. Holds no per-request state; safe for concurrent requests."""

    def __init__(self, telemetry: Telemetry, app: App, route: RouteFunction | None) -> None:
        settings = telemetry.settings
        self._telemetry = telemetry
        self._tracer = telemetry.tracing.tracer
        self._provider = telemetry.tracing.provider
        self._propagation = telemetry.propagation
        self._health = telemetry.health
        self._protocols = RequestProtocolCache(telemetry)
        self._protocols_by_scope = self._protocols.by_scope
        self._active_streams = telemetry.metrics.family(STREAM_ACTIVE)
        self._request_attributes = RequestAttributeCache(settings, telemetry.logs)
        self._clients = self._request_attributes.clients
        recorder = RequestRecorder(telemetry, app, route, self._request_attributes)
        self.record: Callable[[HttpRequest, int, BaseException | None], None] = recorder.record
        # None instead of an empty HeaderCapture: this saves a call for each request.
        secrets, policy = settings.sanitized_headers, telemetry.logs.redaction
        self._request_headers = HeaderCapture(HTTP_REQUEST_HEADER, settings.request_headers, secrets, policy) or None
        self._response_headers = HeaderCapture(HTTP_RESPONSE_HEADER, settings.response_headers, secrets, policy) or None
        self._has_trusted_proxies = bool(settings.trusted_proxies)
        self._tenant_header = settings.tenant_header.lower().encode() if settings.tenant_header else None
        self._trust_inbound = settings.trust_inbound
        self._has_other_propagators = bool({*settings.propagators} - {"tracecontext", "baggage", "none"})

    async def handle(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for one connection and observe it. Exceptions of the application are raised unchanged."""
        request_class = HttpRequest if scope["type"] == "http" else WebSocketRequest
        try:
            request = request_class.create(self, scope, receive, send)
            token = self._start(request, scope)
        except Exception as failure:  # noqa: BLE001  an internal error; the request is handled without observation
            self.on_error("asgi.begin", failure)
            await app(scope, receive, send)
            return
        try:
            await app(scope, request.receive, request.send)
        except BaseException as error:
            try:
                request.on_app_exit(error)
            except Exception as failure:  # noqa: BLE001  an internal error; the application's exception is raised
                self.on_error("asgi.end", failure)
            raise
        else:
            if request.outcome is None:
                try:
                    request.on_app_exit(None)
                except Exception as failure:  # noqa: BLE001  an internal error; the request is over
                    self.on_error("asgi.end", failure)
        finally:
            try:
                otel_context.reset(token)
            except ValueError:  # closed by another task or by the garbage collector
                otel_context.restore_in_place(request.context, token)
            # Without these references the request is in no reference cycle, neither by itself nor through the server's
            # objects that own `send`. It is freed here and not by a later garbage collection: memory that is reused at
            # once is still in the processor's cache, which is half of what a request costs (tests/bench/throughput.py).
            scope[OBSERVED_KEY] = None
            del request.scope, request.context

    def on_error(self, where: str, error: BaseException) -> None:
        """Record an internal error."""
        self._telemetry.internal_telemetry.record_error(where, error)

    def _start(self, request: HttpRequest, scope: Scope) -> Any:
        """Fill in the state of a request, start its span and make it current. Return the token of the context."""
        headers = dict(scope["headers"])
        peer = scope.get("client")
        if self._has_trusted_proxies:
            forwarded = self._request_attributes.forwarded_info(peer, headers)
            protocol = self._protocols.find(scope, forwarded.scheme)
            request.client = self._request_attributes.client(peer, headers, forwarded)
        else:
            try:  # the caches are read here, which saves two calls
                protocol = self._protocols_by_scope[scope["method"], scope["scheme"], scope["http_version"]]
                request.client = self._clients[peer, headers.get(b"host"), headers.get(b"user-agent")]
            except (KeyError, TypeError):
                protocol = self._protocols.find(scope)
                request.client = self._request_attributes.client(peer, headers)
        request.protocol = protocol
        if self._request_headers is not None:
            request.captured_headers = self._request_headers.collect(scope["headers"])
        if self._has_other_propagators or not _PROPAGATION_HEADERS.isdisjoint(headers):
            inbound = self._read_inbound(request, scope, headers)
        else:
            inbound = EMPTY_INBOUND
        if self._tenant_header is not None and (tenant := headers.get(self._tenant_header)):
            request.bound_attributes = {**(request.bound_attributes or {}), TENANT_ID: tenant[:256].decode("latin-1")}
        request.wall_ns = wall_ns = time_ns()
        request.start_ns = perf_counter_ns()
        request.outer_context = outer_context = otel_context.get_current()
        adopted = None
        if outer_context or _FASTAPI_SPAN_KEY in scope:
            functions = (request._receive, request._send)  # noqa: SLF001  a class of this package
            adopted = coexistence.find_active_server_span(scope, outer_context, inbound.parent, functions)
        if "fastapi" in _modules or _STARLETTE_MODULE in _modules:
            coexistence.mark_observed(scope)
        span: Span | NonRecordingSpan | ExternalSpan | coexistence.AdoptedSpan
        if adopted is not None:
            span = adopted
            context = context_with(request, adopted.span, outer_context)
        elif inbound is EMPTY_INBOUND and not outer_context and not self._provider.needs_start_attributes:
            span = self._tracer.start_fast(protocol.span_name, _SERVER, None, wall_ns)
            context = Context({OPERATION_KEY: request, SPAN_KEY: span})  # `context_with` on an empty context
        else:
            base = coexistence.with_outer_values(
                inbound.context if self._trust_inbound else EMPTY_INBOUND.context, outer_context
            )
            span = self._start_span(request, inbound, base)
            context = context_with(request, span if type(span) is Span else api_span(span), base)
        request.span = span
        request.context = context
        digits = hexlify(span.ids)
        request.hex_ids = (digits[:32], digits[32:], FLAGS_HEX[span.flags])
        scope[OBSERVED_KEY] = request
        request.active_series = active_series = protocol.active_series
        active_series.cells[0] += 1.0
        return otel_context.attach(context)

    def _read_inbound(self, request: HttpRequest, scope: Scope, headers: dict[bytes, bytes]) -> Inbound:
        pairs = scope["headers"]  # ASGI allows any iterable
        are_unique = isinstance(pairs, list) and len(headers) == len(pairs)
        inbound = self._propagation.read_unique(headers) if are_unique else self._propagation.read(pairs)
        request.correlation_id = inbound.correlation_id
        if inbound.context and self._trust_inbound:
            request.bound_attributes = self._propagation.bindings(inbound.context)
        return inbound

    def _start_span(
        self, request: HttpRequest, inbound: Inbound, context: Context
    ) -> Span | NonRecordingSpan | ExternalSpan:
        parent, links = inbound.parent, _NO_LINKS
        if parent is not None and not self._trust_inbound:
            links, parent = (Link(parent),), None
        attributes = partial(self._sampling_attributes, request) if self._provider.needs_start_attributes else None
        name = request.protocol.span_name
        return self._tracer.start_fast(name, _SERVER, parent, request.wall_ns, attributes, context, links)

    def on_response_start(self, request: HttpRequest, message: Message) -> Message:
        """Add the correlation id to the start message of a response, and detect an event stream."""
        has_correlation_id = False
        headers = message.get("headers") or ()
        for name, value in headers:
            length = len(name)  # cheaper than the name in lower case
            if length == 12:
                if (
                    value
                    and value[0] in _LETTER_T
                    and value[:17].lower() == EVENT_STREAM
                    and name.lower() == b"content-type"
                ):
                    self._switch_to_event_stream(request)
            elif length == 16 and name.lower() == b"x-correlation-id":
                has_correlation_id = True
        span = request.span
        if self._response_headers is not None:
            captured = self._response_headers.collect(headers)
            request.captured_headers = {**(request.captured_headers or {}), **captured}
        if type(span) is _AdoptedSpan:
            # Its owner ends it with the last byte, before the request is recorded, so the attributes are set here.
            span.span.set_attributes({**self._client_and_url_attributes(request), **(request.bound_attributes or {})})
        if self._health.draining and request.protocol.version in _HTTP_1_VERSIONS:
            message = with_connection_close(message)
            headers = message["headers"]
        if has_correlation_id:
            return message
        value = request.correlation_id.encode("latin-1") if request.correlation_id else request.hex_ids[0]
        return {**message, "headers": [*headers, (b"x-correlation-id", value)]}

    def before_last_byte(self, request: HttpRequest) -> None:
        """Set `error.type` of an adopted span: its owner has set the status code at the start of the response."""
        span = request.span
        if type(span) is not _AdoptedSpan:
            return
        if (error_type := coexistence.error_type_of_response(request.status)) is not None:
            span.span.set_attribute(ERROR_TYPE, error_type)

    def _sampling_attributes(self, request: HttpRequest) -> dict[str, Any]:
        """Return the attributes that are passed to a sampler."""
        attributes: dict[str, Any] = {HTTP_METHOD: request.protocol.method, URL_SCHEME: request.protocol.scheme}
        return attributes | (request.captured_headers or {}) | self._client_and_url_attributes(request)

    def _client_and_url_attributes(self, request: HttpRequest) -> dict[str, Any]:
        """Return the attributes that samplers need at the start and that an adopted span needs before its end."""
        client_attributes = request.client.span_attributes.attributes
        query = request.scope.get("query_string")
        return {**self._request_attributes.url_attributes(request.path, query), **client_attributes}

    def _switch_to_event_stream(self, request: HttpRequest) -> None:
        if not request.stream_kind:
            request.stream_kind = "sse"
            request.active_series.add(-1)
            request.active_series = self._active_streams.number_series("sse")
            request.active_series.add(1)

"""The request path of one middleware and one Telemetry: what is decided at construction, then begin and start."""

from __future__ import annotations

import sys
from binascii import hexlify
from functools import partial
from time import perf_counter_ns, time_ns
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from connectsoft_obs.asgi import foreign
from connectsoft_obs.asgi.addresses import Addresses
from connectsoft_obs.asgi.captured import Captured
from connectsoft_obs.asgi.conversation import Conversation
from connectsoft_obs.asgi.exchange import EVENT_STREAM, Exchange, closing
from connectsoft_obs.asgi.manners import Manners
from connectsoft_obs.asgi.routes import Route
from connectsoft_obs.asgi.settling import Settling
from connectsoft_obs.asgi.types import App, Message, Receive, Scope, Send
from connectsoft_obs.context import NOTHING, OPERATION, SPAN, Inbound, runtime, within
from connectsoft_obs.signals.tracing import FLAGS, Span, Unsampled
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
_FASTAPI: Final = foreign.FASTAPI
_STARLETTE: Final = foreign.STARLETTE
_Adopted: Final = foreign.Adopted

MARK = "connectsoft_obs"
"""Key of the scope that tells a second middleware of ours that the request is already observed."""

_SERVER: Final = SpanKind.SERVER
_IDENTITY = frozenset({b"traceparent", b"tracestate", b"baggage", b"x-correlation-id", b"x-request-id"})
_KEEPS_ALIVE = ("1.1", "1.0")
_NO_LINKS: tuple[Link, ...] = ()
_T = frozenset(b"tT")


class Requests:
    """Observes requests and WebSockets. Holds nothing of a request; safe for any number at once."""

    def __init__(self, telemetry: Telemetry, route: Route | None) -> None:
        settings = telemetry.settings
        self._telemetry = telemetry
        self._tracer = telemetry.tracing.tracer
        self._provider = telemetry.tracing.provider
        self._propagation = telemetry.propagation
        self._health = telemetry.health
        self._manners = Manners(telemetry)
        self._known_manners = self._manners.known
        self._streams = telemetry.metrics.family(STREAM_ACTIVE)
        self._addresses = Addresses(settings, telemetry.logs)
        self._known_callers = self._addresses.known
        self.settling: Settling = Settling(telemetry, route, self._addresses)
        secrets = settings.sanitized_headers
        # None instead of what would answer "nothing": asking costs, and is asked of each request.
        self._request_headers = Captured(HTTP_REQUEST_HEADER, settings.request_headers, secrets) or None
        self._response_headers = Captured(HTTP_RESPONSE_HEADER, settings.response_headers, secrets) or None
        self._behind_proxies = bool(settings.trusted_proxies)
        self._tenant = settings.tenant_header.lower().encode() if settings.tenant_header else None
        self._trust = settings.trust_inbound
        self._other_propagators = bool({*settings.propagators} - {"tracecontext", "baggage", "none"})

    async def handle(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for one connection, observed; whatever it raises is raised."""
        kind = Exchange if scope["type"] == "http" else Conversation
        try:
            exchange = kind.of(self, scope, receive, send)
            token = self._begin(exchange, scope)
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
            if exchange.outcome is None:
                try:
                    exchange.ended(None)
                except Exception as failure:  # noqa: BLE001  ours; the request is over and stays as it was
                    self.failed("asgi.end", failure)
        finally:
            try:
                runtime.reset(token)
            except ValueError:
                runtime.detach(token)
            # Without these references the exchange is no cycle, neither by itself nor by way of the server's objects that
            # send for it, and is freed here and not by a collection later: memory that comes back at once is still in
            # the processor's cache, which is half of what a request costs (tests/bench/wire.py).
            scope[MARK] = None
            del exchange.scope, exchange.context

    def failed(self, where: str, error: BaseException) -> None:
        """Account for an error of ours."""
        self._telemetry.ledger.error(where, error)

    def _begin(self, exchange: Exchange, scope: Scope) -> Any:
        headers = dict(scope["headers"])
        peer = scope.get("client")
        if self._behind_proxies:
            original = self._addresses.original(peer, headers)
            manner = self._manners.of(scope, original.scheme)
            exchange.caller = self._addresses.caller(peer, headers, original)
        else:
            try:  # what is known costs less without a call
                manner = self._known_manners[scope["method"], scope["scheme"], scope["http_version"]]
                exchange.caller = self._known_callers[peer, headers.get(b"host"), headers.get(b"user-agent")]
            except (KeyError, TypeError):
                manner = self._manners.of(scope)
                exchange.caller = self._addresses.caller(peer, headers)
        exchange.manner = manner
        if self._request_headers is not None:
            exchange.recorded_headers = self._request_headers.of(scope["headers"])
        if self._other_propagators or not _IDENTITY.isdisjoint(headers):
            inbound = self._read(exchange, scope, headers)
        else:
            inbound = NOTHING
        if self._tenant is not None and (tenant := headers.get(self._tenant)):
            exchange.facts = {**(exchange.facts or {}), TENANT_ID: tenant[:256].decode("latin-1")}
        exchange.wall_ns = wall_ns = time_ns()
        exchange.start_ns = perf_counter_ns()
        exchange.outer = here = runtime.here()
        adopted = foreign.present(scope, here) if here or _FASTAPI in scope else None
        if "fastapi" in _loaded or _STARLETTE in _loaded:
            foreign.hush(scope)
        span: Span | Unsampled | foreign.Adopted
        if adopted is not None:
            span = adopted
            context = within(exchange, adopted.span, here)
        elif inbound is NOTHING and not self._provider.watched:
            span = self._tracer.open(manner.name, _SERVER, None, wall_ns)
            context = Context({OPERATION: exchange, SPAN: span})  # as `within`, on top of nothing
        else:
            span = self._open(exchange, inbound)
            context = within(exchange, span, inbound.base if self._trust else NOTHING.base)
        exchange.span = span
        exchange.context = context
        digits = hexlify(span.ids)
        exchange.digits = (digits[:32], digits[32:], FLAGS[span.flags])
        scope[MARK] = exchange
        exchange.active = active = manner.active
        active.cells[0] += 1.0
        return runtime.attach(context)

    def _read(self, exchange: Exchange, scope: Scope, headers: dict[bytes, bytes]) -> Inbound:
        whole = scope["headers"]
        once = isinstance(whole, list) and len(headers) == len(whole)  # ASGI allows any iterable
        inbound = self._propagation.known(headers) if once else self._propagation.read(whole)
        exchange.correlation_id = inbound.correlation_id
        if inbound.base and self._trust:
            exchange.facts = self._propagation.facts(inbound.base)
        return inbound

    def _open(self, exchange: Exchange, inbound: Inbound) -> Span | Unsampled:
        parent, links = inbound.parent, _NO_LINKS
        if parent is not None and not self._trust:
            links, parent = (Link(parent),), None
        initial = partial(self._initial, exchange) if self._provider.watched else None
        return self._tracer.open(exchange.manner.name, _SERVER, parent, exchange.wall_ns, initial, None, links)

    def started(self, exchange: Exchange, message: Message) -> Message:
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
            found = self._response_headers.of(headers)
            exchange.recorded_headers = {**(exchange.recorded_headers or {}), **found}
        if type(span) is _Adopted:
            # It ends with the last byte, before we settle; so it is told now what is known.
            span.span.set_attributes({**self._of_span(exchange), **(exchange.facts or {})})
        if self._health.draining and exchange.manner.version in _KEEPS_ALIVE:
            message = closing(message)
            headers = message["headers"]
        if carries:
            return message
        correlation = exchange.correlation_id
        own = correlation.encode("latin-1") if correlation else exchange.digits[0]
        return {**message, "headers": [*headers, (b"x-correlation-id", own)]}

    def _initial(self, exchange: Exchange) -> dict[str, Any]:
        """What a sampler may look at."""
        found: dict[str, Any] = {HTTP_METHOD: exchange.manner.method, URL_SCHEME: exchange.manner.scheme}
        return found | (exchange.recorded_headers or {}) | self._of_span(exchange)

    def _of_span(self, exchange: Exchange) -> dict[str, Any]:
        """Who asks for what, for whoever looks at a span before it ends."""
        return {**self._addresses.asked(exchange.scope), **exchange.caller.shared.items}

    def _becomes_stream(self, exchange: Exchange) -> None:
        if not exchange.stream:
            exchange.stream = "sse"
            exchange.active.add(-1)
            exchange.active = self._streams.number("sse")
            exchange.active.add(1)

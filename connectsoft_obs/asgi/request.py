"""State of one HTTP request while it is handled. No other object holds per-request state."""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, Protocol, Self

from connectsoft_obs.asgi.client_disconnect import is_disconnect_error, is_disconnected
from connectsoft_obs.asgi.response_messages import FILE_MESSAGES, file_size
from connectsoft_obs.context import otel_context
from connectsoft_obs.operations import Operation, exception_outcome, status_outcome
from connectsoft_obs.signals.logs import logged_exception
from connectsoft_obs.vocabulary import ErrorType, Outcome

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from connectsoft_obs.asgi.bindings import RequestProtocol
    from connectsoft_obs.asgi.coexistence import AdoptedSpan
    from connectsoft_obs.asgi.request_attributes import ClientAttributes
    from connectsoft_obs.asgi.types import Message, Receive, Scope, Send
    from connectsoft_obs.signals.logs import HexIds
    from connectsoft_obs.signals.metrics import NumberSeries
    from connectsoft_obs.signals.tracing import ExternalSpan, NonRecordingSpan, Span

EVENT_STREAM = b"text/event-stream"
"""Prefix of the content type of server-sent events, in lower case."""

_SUCCESS: Final = Outcome.SUCCESS  # saves the look-up of the enum member
_new = object.__new__


class RequestHooks(Protocol):
    """Functions that a request calls when its response starts and when it ends. `RequestInstrumentation` has them."""

    def on_response_start(self, request: HttpRequest, message: Message, /) -> Message:
        """Process the start message of the response and return the message to send."""

    def before_last_byte(self, request: HttpRequest, /) -> None:
        """Complete the span of another instrumentation, which ends it with the last byte of a response above 499."""

    def record(self, request: HttpRequest, elapsed_ns: int, error: BaseException | None, /) -> None:
        """Record a finished request."""

    def on_error(self, where: str, error: BaseException, /) -> None:
        """Record an internal error."""


class HttpRequest(Operation):
    """One request in flight: counts body bytes, stops the clock at the last byte, and is recorded once.

    `send` and `receive` are passed to the application in place of the server's functions. They pass on every message
    unchanged, except that a response without a correlation id gets one.
    """

    __slots__ = (
        "_hooks",
        "_receive",
        "_send",
        "active_series",
        "captured_headers",
        "client",
        "client_aborted",
        "context",
        "disconnected",
        "first_byte_ns",
        "has_trailers",
        "hex_ids",
        "last_byte_ns",
        "message_counts",
        "outer_context",
        "path",
        "protocol",
        "request_body_size",
        "response_body_size",
        "root_path",
        "scope",
        "span",
        "start_ns",
        "status",
        "stream_kind",
        "wall_ns",
    )

    _hooks: RequestHooks
    _receive: Receive
    _send: Send
    active_series: NumberSeries  # gauge series of requests in flight that counts this one
    captured_headers: dict[str, list[str]] | None
    client: ClientAttributes
    client_aborted: bool  # the client disconnected before the last byte was sent
    context: Context
    disconnected: bool  # the server has reported a disconnect
    first_byte_ns: int  # `perf_counter_ns()` at the response start, 0 before
    has_trailers: bool
    hex_ids: HexIds
    last_byte_ns: int  # `perf_counter_ns()` after the last byte, 0 before
    message_counts: dict[str, int] | None  # WebSocket messages by attribute name
    outer_context: Context  # the context that was current when the request came
    path: str  # as the server has set it; some frameworks change it in the scope
    protocol: RequestProtocol
    request_body_size: int
    response_body_size: int
    root_path: str
    scope: Scope
    span: Span | NonRecordingSpan | ExternalSpan | AdoptedSpan
    start_ns: int  # `perf_counter_ns()` at the start
    status: int  # 0 before the response start
    stream_kind: str  # `sse`, `websocket`, or empty for an ordinary response
    wall_ns: int  # start in nanoseconds since 1970

    @classmethod
    def create(cls, hooks: RequestHooks, scope: Scope, receive: Receive, send: Send) -> Self:
        """Create the state of a new request.

        The attributes are set here, because calling a class with a constructor in Python takes 50 % longer
        (tests/bench/span.py). `outcome` is None until the request is recorded.
        """
        request = _new(cls)
        request.name = ""
        request.correlation_id = request.bound_attributes = request.outcome = request.error_type = None
        request._hooks = hooks  # noqa: SLF001  an instance of this class
        request._receive = receive  # noqa: SLF001
        request._send = send  # noqa: SLF001
        request.scope = scope
        request.path = scope["path"]
        request.root_path = scope.get("root_path", "")
        request.stream_kind = ""
        request.message_counts = request.captured_headers = None
        request.status = request.response_body_size = request.request_body_size = 0
        request.first_byte_ns = request.last_byte_ns = 0
        request.client_aborted = request.has_trailers = request.disconnected = False
        return request

    # A plain function that returns the server's awaitable costs half of a coroutine around it, for each message. An
    # exception that the server raises is recognized by its traceback when it leaves the application.
    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on to the server."""
        kind = message.get("type")
        if kind == "http.response.start":
            return self._send(self._on_response_start(message, message))
        if kind == "http.response.body":
            body = message.get("body")
            if body:
                self.response_body_size += len(body)
            if ("more_body" in message and message["more_body"]) or self.has_trailers:  # noqa: RUF019  a third of the time of `get`
                return self._send(message)
            return self._on_last_byte(message)
        if kind in FILE_MESSAGES:
            self.response_body_size += file_size(message)
            is_last = not (message.get("more_body", False) or self.has_trailers)
        else:
            is_last = kind == "http.response.trailers" and not message.get("more_trailers", False)
        return self._on_last_byte(message) if is_last else self._send(message)

    async def receive(self) -> Message:
        """Pass a message on to the application."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.request_body_size += len(message.get("body") or b"")
        elif message["type"] == "http.disconnect":
            self.disconnected = True
        return message

    def on_app_exit(self, error: BaseException | None) -> None:
        """Record the request, unless the last byte did. Called when the application has returned or raised `error`."""
        if self.outcome is not None:
            return
        if error is not None:
            outcome, error_type = exception_outcome(error)
            if self._is_disconnect_error(error):
                logged_exception.set(error)  # the server's record of it is not an error of the service
                self._finish_aborted()
                return
            if not self.first_byte_ns and outcome is not Outcome.ABORTED:
                self.status = 500  # the server is going to send it
            self._finish(outcome, error_type, error if outcome is not Outcome.ABORTED else None)
        elif self.last_byte_ns and not self.client_aborted:
            self._finish(*status_outcome(self.status))
        elif self.client_aborted or self._is_disconnected():
            self._finish_aborted()
        elif self.stream_kind:
            self._finish(Outcome.SUCCESS, None)
        else:
            # The server answers an incomplete response with a 500, or closes the connection.
            self.status = self.status or 500
            self._finish(Outcome.FAILURE, "incomplete_response" if self.first_byte_ns else "500")

    def _on_response_start(self, start: Message, message: Message) -> Message:
        """Return the message to send. `start` contains the status; it is `message`, except for a WebSocket."""
        if self.first_byte_ns:
            return message  # a second start message; the server reports it
        self.first_byte_ns = perf_counter_ns()
        headers = message.get("headers")
        if type(headers) is not list and headers is not None:  # ASGI allows any iterable, and the server iterates too
            message = {**message, "headers": [*headers]}
        try:
            self.status = start["status"]
            if "trailers" in start:
                self.has_trailers = bool(start["trailers"])
            return self._hooks.on_response_start(self, message)
        except Exception as failure:  # noqa: BLE001  an internal error; the response is sent unchanged
            self._hooks.on_error("asgi.start", failure)
            return message

    async def _on_last_byte(self, message: Message) -> None:
        try:
            connection = getattr(self._send, "__self__", None)
            self.client_aborted = self.disconnected or (connection is not None and is_disconnected(connection))
            if self.status >= 500:
                self._hooks.before_last_byte(self)
        except Exception as failure:  # noqa: BLE001  an internal error or the server's; the last byte is sent
            self._hooks.on_error("asgi.send", failure)
        # What the server starts after the last byte does not belong to the request. A timer for the next request of the
        # connection would otherwise hold this request's span until then: the memory is out of the processor's cache when
        # it is freed, and there is a garbage collection every 64 requests (tests/asgi/test_garbage_collection.py,
        # tests/bench/throughput.py).
        token = otel_context.attach(self.outer_context)
        try:
            await self._send(message)
        except OSError:
            self.disconnected = True
            raise
        finally:
            try:
                otel_context.reset(token)
            except ValueError:
                otel_context.detach(token)
        if self.outcome is not None:
            return
        self.last_byte_ns = last_byte_ns = perf_counter_ns()
        try:
            if self.status < 400 and not self.client_aborted and not self.stream_kind:  # nearly every response
                self.outcome = _SUCCESS
                record = self._hooks.record
                record(self, last_byte_ns - self.start_ns, None)
            else:
                self._finish_or_wait()
        except Exception as failure:  # noqa: BLE001  an internal error; the response is complete
            self._hooks.on_error("asgi.end", failure)

    def _finish_or_wait(self) -> None:
        """Record the request after its last byte, unless the application may still raise the cause of its 500."""
        if self.client_aborted and not self.stream_kind and self.status < 500:
            self._finish(Outcome.ABORTED, ErrorType.CLIENT_DISCONNECT.value)
        elif self.stream_kind:
            self._finish(Outcome.SUCCESS, None)
        elif self.status < 500:
            self._finish(*status_outcome(self.status))
        # A framework sends its 500 before it raises the exception to this middleware: the clock has stopped, and
        # `on_app_exit` records the request.

    def _finish(self, outcome: Outcome, error_type: str | None, error: BaseException | None = None) -> None:
        if self.stream_kind and outcome is Outcome.ABORTED:
            outcome, error_type = Outcome.SUCCESS, None
        self.outcome: Outcome | None = outcome
        self.error_type: str | None = error_type
        try:
            record = self._hooks.record
            record(self, (self.last_byte_ns or perf_counter_ns()) - self.start_ns, error)
        except Exception as failure:  # noqa: BLE001  an internal error; the request is over
            self._hooks.on_error("asgi.record", failure)

    def _finish_aborted(self) -> None:
        self.status = 0 if self.status >= 500 else self.status  # the client did not get the 500
        self._finish(Outcome.ABORTED, ErrorType.CLIENT_DISCONNECT.value)

    def _is_disconnect_error(self, error: BaseException) -> bool:
        disconnected = self.client_aborted if self.last_byte_ns else self._is_disconnected()
        return is_disconnect_error(error, (self._send, self._receive), disconnected)

    def _is_disconnected(self) -> bool:
        return self.disconnected or is_disconnected(getattr(self._send, "__self__", None))

"""One request and its response, while they last. All state of a request is here and nowhere else."""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, Self

from connectsoft_obs.context import otel_context
from connectsoft_obs.operations import Operation, exception_outcome, status_outcome
from connectsoft_obs.vocabulary import ErrorType, Outcome

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from connectsoft_obs.asgi.bindings import RequestProtocol
    from connectsoft_obs.asgi.coexistence import AdoptedSpan
    from connectsoft_obs.asgi.instrumentation import RequestInstrumentation
    from connectsoft_obs.asgi.request_attributes import ClientAttributes
    from connectsoft_obs.asgi.types import Message, Receive, Scope, Send
    from connectsoft_obs.signals.logs import HexIds
    from connectsoft_obs.signals.metrics import NumberSeries
    from connectsoft_obs.signals.tracing import NonRecordingSpan, Span

EVENT_STREAM = b"text/event-stream"
"""How the content type of server-sent events begins, in small letters."""

_SUCCESS: Final = Outcome.SUCCESS  # a look-up less
_new = object.__new__


class HttpRequest(Operation):
    """A request in flight: counts what passes, stops the clock at the last byte, and settles once.

    `send` and `receive` stand between server and application. They pass every message on as it is, except that a
    response without a correlation id gets one.
    """

    __slots__ = (
        "_receive",
        "_requests",
        "_send",
        "active",
        "caller",
        "context",
        "counts",
        "digits",
        "disconnected",
        "first_ns",
        "last_ns",
        "left",
        "manner",
        "outer",
        "received",
        "recorded_headers",
        "root",
        "scope",
        "sent",
        "span",
        "start_ns",
        "status",
        "stream",
        "trailers",
        "wall_ns",
    )

    _receive: Receive
    _requests: RequestInstrumentation
    _send: Send
    active: NumberSeries
    caller: ClientAttributes
    context: Context
    counts: dict[str, int] | None
    digits: HexIds
    disconnected: bool
    first_ns: int
    last_ns: int
    left: bool
    manner: RequestProtocol
    outer: Context
    received: int
    recorded_headers: dict[str, list[str]] | None
    root: str
    scope: Scope
    sent: int
    span: Span | NonRecordingSpan | AdoptedSpan
    start_ns: int
    status: int
    stream: str
    trailers: bool
    wall_ns: int

    @classmethod
    def create(cls, requests: RequestInstrumentation, scope: Scope, receive: Receive, send: Send) -> Self:
        """A request that begins.

        Filled in from here, as a call of a class with a constructor in Python costs half as much again
        (tests/bench/span.py). `outcome` tells whether it is settled, `first_ns` whether a response has started.
        """
        made = _new(cls)
        made.name = ""
        made.correlation_id = made.bound_attributes = made.outcome = made.error_type = None
        made._requests = requests  # noqa: SLF001  its own
        made._receive = receive  # noqa: SLF001
        made._send = send  # noqa: SLF001
        made.scope = scope
        made.root = scope.get("root_path", "")
        made.stream = ""
        made.counts = made.recorded_headers = None
        made.status = made.sent = made.received = made.first_ns = made.last_ns = 0
        made.left = made.trailers = made.disconnected = False
        return made

    # A plain function that returns the server's awaitable costs half of a coroutine around it, for each message.
    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on to the server."""
        kind = message.get("type")
        if kind == "http.response.start":
            return self._send(self._on_response_start(message, message))
        if kind == "http.response.body":
            body = message.get("body")
            if body:
                self.sent += len(body)
            if ("more_body" in message and message["more_body"]) or self.trailers:  # noqa: RUF019  a third of `get`
                return self._send(message)
            return self._on_last_byte(message)
        if kind == "http.response.pathsend" or (
            kind == "http.response.trailers" and not message.get("more_trailers", False)
        ):
            return self._on_last_byte(message)
        return self._send(message)

    async def receive(self) -> Message:
        """Pass a message on to the application."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body") or b"")
        elif message["type"] == "http.disconnect":
            self.disconnected = True
        return message

    def on_app_exit(self, error: BaseException | None) -> None:
        """The application returned or raised; settle what the last byte has not settled."""
        if self.outcome is not None:
            return
        if error is not None:
            outcome, name = exception_outcome(error)
            if self._by_disconnect(error):
                outcome, name = Outcome.ABORTED, ErrorType.CLIENT_DISCONNECT.value
                self.status = 0 if self.status >= 500 else self.status  # a framework's 500 to nobody
            elif not self.first_ns and outcome is not Outcome.ABORTED:
                self.status = 500  # what the server is going to send
            self._finish(outcome, name, error if outcome is not Outcome.ABORTED else None)
        elif self.last_ns and not self.left:
            self._finish(*status_outcome(self.status))
        elif self.left or self.disconnected:
            self._finish(Outcome.ABORTED, ErrorType.CLIENT_DISCONNECT.value)
        elif self.stream:
            self._finish(Outcome.SUCCESS, None)
        else:
            # Without a whole response the server answers 500, or cuts the connection.
            self.status = self.status or 500
            self._finish(Outcome.FAILURE, "incomplete_response" if self.first_ns else "500")

    def _on_response_start(self, start: Message, message: Message) -> Message:
        """The message to pass on; `start` is what it means for the response."""
        if self.first_ns:
            return message  # a second start; the server will say what it thinks of it
        self.first_ns = perf_counter_ns()
        headers = message.get("headers")
        if type(headers) is not list and headers is not None:  # ASGI allows any iterable, and the server reads it
            message = {**message, "headers": [*headers]}
        try:
            self.status = start["status"]
            if "trailers" in start:
                self.trailers = bool(start["trailers"])
            return self._requests.on_response_start(self, message)
        except Exception as failure:  # noqa: BLE001  ours; the response goes out as it is
            self._requests.on_error("asgi.start", failure)
            return message

    async def _on_last_byte(self, message: Message) -> None:
        try:
            connection = getattr(self._send, "__self__", None)
            self.left = self.disconnected or (connection is not None and self._client_disconnected())
        except Exception as failure:  # noqa: BLE001  ours, or a server's object; the last byte is sent
            self._requests.on_error("asgi.send", failure)
        # What the server begins when it has sent the last byte is not the request's any more. A timer for the connection's
        # next request would otherwise keep this one's span until then: memory that is cold when it comes back, and a
        # garbage collection for every 64 requests (tests/asgi/test_garbage_collection.py, tests/bench/throughput.py).
        token = otel_context.attach(self.outer)
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
        self.last_ns = last_ns = perf_counter_ns()
        try:
            if self.status < 400 and not self.left and not self.stream:  # what nearly every response is
                self.outcome = _SUCCESS
                self._requests.recorder.record(self, last_ns - self.start_ns, None)
            else:
                self._finish_or_wait()
        except Exception as failure:  # noqa: BLE001  ours; the response is complete
            self._requests.on_error("asgi.end", failure)

    def _finish_or_wait(self) -> None:
        """The last byte is out: settle, unless the application can still turn out to have failed."""
        if self.left and not self.stream and self.status < 500:
            self._finish(Outcome.ABORTED, ErrorType.CLIENT_DISCONNECT.value)
        elif self.stream:
            self._finish(Outcome.SUCCESS, None)
        elif self.status < 500:
            self._finish(*status_outcome(self.status))
        # A framework writes its 500 before the exception that caused it gets here: the clock has stopped, the rest
        # waits for `ended`.

    def _finish(self, outcome: Outcome, name: str | None, error: BaseException | None = None) -> None:
        if self.stream and outcome is Outcome.ABORTED:
            outcome, name = Outcome.SUCCESS, None
        self.outcome: Outcome | None = outcome
        self.error_type: str | None = name
        try:
            self._requests.recorder.record(self, (self.last_ns or perf_counter_ns()) - self.start_ns, error)
        except Exception as failure:  # noqa: BLE001  ours; the request is over and stays as it was
            self._requests.on_error("asgi.record", failure)

    def _client_disconnected(self) -> bool:
        """Whether the client hung up before the last byte: we saw it, or the server's connection object says so.

        uvicorn's object has `disconnected`, hypercorn's `closed`; granian tells only an application that asks.
        """
        connection = getattr(self._send, "__self__", None)
        return bool(
            self.disconnected or getattr(connection, "disconnected", False) or getattr(connection, "closed", False)
        )

    def _by_disconnect(self, error: BaseException) -> bool:
        if not (self.left if self.last_ns else self._client_disconnected()) or isinstance(error, TimeoutError):
            return False
        return isinstance(error, OSError) or type(error).__name__ == "ClientDisconnect"


def with_header(message: Message, name: bytes, value: bytes) -> Message:
    """A copy of a response start with one more header; the application's own message and list stay as they are."""
    copy: MutableMapping[str, Any] = dict(message)
    copy["headers"] = [*message.get("headers", ()), (name, value)]
    return copy


def closing(message: Message) -> Message:
    """A response start after which an HTTP/1 connection ends, so that the client's next request can go elsewhere."""
    if message["type"] != "http.response.start":
        return message  # a WebSocket's handshake ends by an upgrade of its connection
    if any(name.lower() == b"connection" for name, _ in message.get("headers", ())):
        return message  # the application has its own opinion
    return with_header(message, b"connection", b"close")

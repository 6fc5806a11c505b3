"""One WebSocket connection, while it lasts: one span, counts of messages, one sample and one line at its end."""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Self

from connectsoft_obs.asgi.bindings import WEBSOCKET
from connectsoft_obs.asgi.request import HttpRequest
from connectsoft_obs.operations import exception_outcome, status_outcome
from connectsoft_obs.vocabulary import STREAM_RECEIVED, STREAM_SENT, Outcome

if TYPE_CHECKING:
    from connectsoft_obs.asgi.instrumentation import RequestInstrumentation
    from connectsoft_obs.asgi.types import Message, Receive, Scope, Send

SWITCHING_PROTOCOLS = 101
WEBSOCKET_REJECTED = 403
"""What servers answer to a handshake that the application closes instead of accepting (ASGI WebSocket 2.4)."""


class WebSocketRequest(HttpRequest):
    """A WebSocket in flight. Ends well whoever closes it; a crash is ours, a refusal is the caller's fault."""

    __slots__ = ("messages_in", "messages_out")

    messages_in: int
    messages_out: int

    @classmethod
    def create(cls, requests: RequestInstrumentation, scope: Scope, receive: Receive, send: Send) -> Self:
        """A connection that begins."""
        made = super().create(requests, scope, receive, send)
        made.stream = WEBSOCKET
        made.messages_in = made.messages_out = 0
        return made

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on to the server."""
        kind = message.get("type")
        if kind == "websocket.send":
            self.messages_out += 1
            self.sent: int = self.sent + len(message.get("bytes") or message.get("text") or b"")
        elif kind in ("websocket.accept", "websocket.http.response.start"):
            status = SWITCHING_PROTOCOLS if kind == "websocket.accept" else message.get("status", WEBSOCKET_REJECTED)
            return self._send(self._on_response_start({**message, "status": status}, message))
        elif kind == "websocket.close" and not self.first_ns:
            self.status = WEBSOCKET_REJECTED
        return self._send(message)

    async def receive(self) -> Message:
        """Pass a message on to the application."""
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self.messages_in += 1
            self.received: int = self.received + len(message.get("bytes") or message.get("text") or b"")
        elif message["type"] == "websocket.disconnect":
            self.disconnected: bool = True
            self.last_ns: int = self.last_ns or perf_counter_ns()
        return message

    def on_app_exit(self, error: BaseException | None) -> None:
        """The application returned or raised."""
        if self.outcome is not None:
            return
        self.counts: dict[str, int] | None = {STREAM_SENT: self.messages_out, STREAM_RECEIVED: self.messages_in}
        if error is not None and not self._normal(error):
            outcome, name = exception_outcome(error)
            if outcome is not Outcome.ABORTED:
                self.status = self.status or 500
                self._finish(outcome, name, error)
                return
        if self.status and self.status != SWITCHING_PROTOCOLS:
            self._finish(*status_outcome(self.status))
        elif not self.first_ns and not self.disconnected and error is None:
            self.status: int = 500  # neither accepted nor refused: the server answers for the application
            self._finish(Outcome.FAILURE, "500")
        else:
            self._finish(Outcome.SUCCESS, None)

    def _normal(self, error: BaseException) -> bool:
        """Whether an exception only says that the other side has closed."""
        return self.disconnected and (isinstance(error, OSError) or type(error).__name__ == "WebSocketDisconnect")

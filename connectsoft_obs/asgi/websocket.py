"""State of one WebSocket connection. One span, message counts, one duration sample and one log line per connection."""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Self

from connectsoft_obs.asgi.bindings import WEBSOCKET
from connectsoft_obs.asgi.client_disconnect import is_disconnect_error
from connectsoft_obs.asgi.request import HttpRequest
from connectsoft_obs.operations import exception_outcome, status_outcome
from connectsoft_obs.signals.logs import logged_exception
from connectsoft_obs.vocabulary import STREAM_RECEIVED, STREAM_SENT, Outcome

if TYPE_CHECKING:
    from connectsoft_obs.asgi.request import RequestHooks
    from connectsoft_obs.asgi.types import Message, Receive, Scope, Send

SWITCHING_PROTOCOLS = 101
WEBSOCKET_REJECTED = 403
"""Status that servers send if the application closes the connection before it accepts it (ASGI WebSocket 2.4)."""


class WebSocketRequest(HttpRequest):
    """One WebSocket connection. A close by either side is a success, an exception a failure, a rejection is rejected."""

    __slots__ = ("messages_received", "messages_sent")

    messages_received: int
    messages_sent: int

    @classmethod
    def create(cls, hooks: RequestHooks, scope: Scope, receive: Receive, send: Send) -> Self:
        """Create the state of a new connection."""
        request = super().create(hooks, scope, receive, send)
        request.stream_kind = WEBSOCKET
        request.messages_received = request.messages_sent = 0
        return request

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on to the server."""
        kind = message.get("type")
        if kind == "websocket.send":
            self.messages_sent += 1
            size = len(message.get("bytes") or message.get("text") or b"")
            self.response_body_size: int = self.response_body_size + size
        elif kind in ("websocket.accept", "websocket.http.response.start"):
            status = SWITCHING_PROTOCOLS if kind == "websocket.accept" else message.get("status", WEBSOCKET_REJECTED)
            return self._send(self._on_response_start({**message, "status": status}, message))
        elif kind == "websocket.close" and not self.first_byte_ns:
            self.status = WEBSOCKET_REJECTED
        return self._send(message)

    async def receive(self) -> Message:
        """Pass a message on to the application."""
        message = await self._receive()
        if message["type"] == "websocket.receive":
            self.messages_received += 1
            size = len(message.get("bytes") or message.get("text") or b"")
            self.request_body_size: int = self.request_body_size + size
        elif message["type"] == "websocket.disconnect":
            self.disconnected: bool = True
            self.last_byte_ns: int = self.last_byte_ns or perf_counter_ns()
        return message

    def on_app_exit(self, error: BaseException | None) -> None:
        """Record the connection. Called when the application has returned or raised `error`."""
        if self.outcome is not None:
            return
        self.message_counts: dict[str, int] | None = {
            STREAM_SENT: self.messages_sent,
            STREAM_RECEIVED: self.messages_received,
        }
        if error is not None and is_disconnect_error(error, (self._send, self._receive), self.disconnected):
            logged_exception.set(error)  # the server's record of it is not an error of the service
        elif error is not None:
            outcome, error_type = exception_outcome(error)
            if outcome is not Outcome.ABORTED:
                self.status = self.status or 500
                self._finish(outcome, error_type, error)
                return
        if self.status and self.status != SWITCHING_PROTOCOLS:
            self._finish(*status_outcome(self.status))
        elif not self.first_byte_ns and not self.disconnected and error is None:
            self.status: int = 500  # neither accepted nor closed: the server sends a 500
            self._finish(Outcome.FAILURE, "500")
        else:
            self._finish(Outcome.SUCCESS, None)

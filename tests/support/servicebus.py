"""A broker for tests that implements the parts of Service Bus' AMQP 1.0 that the official client uses for queues.

It accepts any token ($cbs), stores queues in memory, delivers in peek-lock mode and redelivers abandoned messages, with
delivery count and enqueued time as Service Bus sets them. It is not a complete emulator.
"""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import proton
from proton.handlers import IncomingMessageHandler, MessagingHandler
from proton.reactor import Container

from support.process import free_port, wait_for
from support.servers import is_listening

_ENQUEUED = proton.symbol("x-opt-enqueued-time")
_SEQUENCE = proton.symbol("x-opt-sequence-number")
_LOCKED = proton.symbol("x-opt-locked-until")
_DATA_SECTION = 0x75
_SECTION_PREFIX = b"\x00\x53"


def _messages(raw: bytes) -> Iterator[proton.Message]:
    """Decode a delivery: one message, or a batch with one encoded message in each data section."""
    sections, remaining = [], raw
    while remaining:
        section: Any = proton.Data()
        remaining = remaining[section.decode(remaining) :]
        section.next()
        described = section.get_py_described()
        if described.descriptor == _DATA_SECTION:
            sections.append(bytes(described.value))
    is_batch = bool(sections) and all(section.startswith(_SECTION_PREFIX) for section in sections)
    for encoded in sections if is_batch else [raw]:
        message = proton.Message()
        message.decode(encoded)
        yield message


class _BatchMessageHandler(IncomingMessageHandler):
    """Like the handler of proton, which supports only messages with one data section."""

    def on_delivery(self, event: Any) -> None:
        delivery = event.delivery
        if not (delivery.link.is_receiver and delivery.readable) or delivery.partial:
            return
        raw = delivery.link.recv(delivery.pending)
        delivery.link.advance()
        for message in _messages(raw):
            event.message = message
            self.on_message(event)
        delivery.update(proton.Delivery.ACCEPTED)
        delivery.settle()


class _Broker(MessagingHandler):
    def __init__(self, port: int) -> None:
        super().__init__(prefetch=100, auto_settle=False)
        handlers: Any = self.handlers
        self.handlers = [
            _BatchMessageHandler(True, weakref.proxy(self)) if isinstance(handler, IncomingMessageHandler) else handler
            for handler in handlers
        ]
        self._port = port
        self._queues: dict[str, deque[proton.Message]] = defaultdict(deque)
        self._links: dict[str, list[Any]] = defaultdict(list)
        self._unacknowledged: dict[Any, tuple[str, proton.Message]] = {}
        self._replies: dict[str, Any] = {}
        self._sequence_number = 0

    def on_start(self, event: Any) -> None:
        self._acceptor = event.container.listen(f"127.0.0.1:{self._port}")

    def close(self) -> None:
        """Close the listening socket, which a stopped container leaves open, so that clients fail instead of waiting."""
        self._acceptor._selectable._delegate.close()

    def on_link_opening(self, event: Any) -> None:
        link = event.link
        link.source.address, link.target.address = link.remote_source.address, link.remote_target.address
        for attribute in ("snd_settle_mode", "rcv_settle_mode"):
            setattr(link, attribute, getattr(link, f"remote_{attribute}"))
        if link.is_sender:
            address = link.remote_source.address
            if address == "$cbs":
                self._replies[event.connection.remote_container] = link
            else:
                self._links[address].append(link)

    def on_link_closing(self, event: Any) -> None:
        for links in self._links.values():
            if event.link in links:
                links.remove(event.link)

    def on_message(self, event: Any) -> None:
        address = event.link.target.address
        message = event.message
        if address == "$cbs":
            properties = {"status-code": 200, "status-description": "OK"}
            reply = proton.Message(correlation_id=message.id, properties=properties)
            self._replies[event.connection.remote_container].send(reply)
            return
        self._sequence_number += 1
        message.annotations = {
            **(message.annotations or {}),
            _ENQUEUED: proton.timestamp(int(time.time() * 1000)),
            _SEQUENCE: self._sequence_number,
            _LOCKED: proton.timestamp(int(time.time() * 1000) + 60_000),
        }
        self._queues[address].append(message)
        self._deliver(address)

    def on_sendable(self, event: Any) -> None:
        if event.link.source.address != "$cbs":
            self._deliver(event.link.source.address)

    def on_accepted(self, event: Any) -> None:
        self._unacknowledged.pop(event.delivery, None)
        _confirm(event.delivery)

    def on_released(self, event: Any) -> None:
        """Redeliver an abandoned message with an incremented delivery count."""
        abandoned = self._unacknowledged.pop(event.delivery, None)
        _confirm(event.delivery)
        if abandoned is not None:
            address, message = abandoned
            message.delivery_count += 1
            self._queues[address].append(message)
            self._deliver(address)

    def on_rejected(self, event: Any) -> None:
        """Remove a dead-lettered message."""
        self.on_accepted(event)

    def _deliver(self, address: str) -> None:
        queue = self._queues[address]
        for link in self._links[address]:
            while queue and link.credit:
                message = queue.popleft()
                self._unacknowledged[link.send(message, tag=uuid.uuid4().bytes)] = (address, message)


def _confirm(delivery: Any) -> None:
    """Confirm the disposition that the receiver has chosen; the client waits for it."""
    delivery.update(delivery.remote_state)
    delivery.settle()


@contextmanager
def servicebus() -> Iterator[str]:
    """Run a broker; yields its connection string."""
    port = free_port()
    broker = _Broker(port)
    container = Container(broker)
    container.container_id = "loopback"
    thread = threading.Thread(target=container.run, daemon=True)
    thread.start()
    wait_for(lambda: is_listening(port), 10, "the broker listens")
    try:
        yield (
            f"Endpoint=sb://127.0.0.1:{port};SharedAccessKeyName=any;SharedAccessKey=any;UseDevelopmentEmulator=true;"
        )
    finally:
        container.stop()
        thread.join(5)
        broker.close()

"""Azure Service Bus: producer spans and propagation headers for senders.

Call `install(sender)` after `client.get_queue_sender(...)` or `get_topic_sender(...)`, sync or async. Receivers
need no installation: `@obs.consumer("audit-events", system="servicebus")` reads the messages of the library.
"""

from __future__ import annotations

from typing import Any

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch
from azure.servicebus.aio import ServiceBusSender as AsyncSender

from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none

SYSTEM = "servicebus"
_MARK = "_connectsoft_obs"


def install(sender: Any, **settings: Any) -> None:
    """Instrument `send_messages` and `schedule_messages` of a sender. Later calls have no effect.

    Adds the headers to the `application_properties` of each message that has no traceparent yet.

    Args:
        sender: a `ServiceBusSender`, sync or async.
        settings: ignored; pass the settings of a process to `configure()` or `worker()`.
    """
    if getattr(sender, _MARK, False):
        return
    setattr(sender, _MARK, True)
    asynchronous = isinstance(sender, AsyncSender)
    for name in ("send_messages", "schedule_messages"):
        setattr(sender, name, (_wrap_async if asynchronous else _wrap_sync)(sender, getattr(sender, name)))


def _wrap_sync(sender: Any, send: Any) -> Any:
    def send_with_span(messages: Any, *args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), str(sender.entity_name), SYSTEM, _count(messages)) as headers:
            _add_headers(messages, headers)
            return send(messages, *args, **kwargs)

    return send_with_span


def _wrap_async(sender: Any, send: Any) -> Any:
    async def send_with_span(messages: Any, *args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), str(sender.entity_name), SYSTEM, _count(messages)) as headers:
            _add_headers(messages, headers)
            return await send(messages, *args, **kwargs)

    return send_with_span


def _count(messages: Any) -> int:
    if isinstance(messages, ServiceBusMessageBatch | list | tuple):
        return len(messages)
    return 1


def _add_headers(messages: Any, headers: dict[str, str]) -> None:
    """Add the headers to messages that are not encoded yet; a ServiceBusMessageBatch holds encoded messages."""
    for message in messages if isinstance(messages, list | tuple) else [messages]:
        if isinstance(message, ServiceBusMessage):
            properties: dict[Any, Any] = dict(message.application_properties or {})
            if "traceparent" not in properties and b"traceparent" not in properties:
                message.application_properties = {**dict[Any, Any](headers), **properties}

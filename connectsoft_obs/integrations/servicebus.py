"""Azure Service Bus: a span and the headers around what a sender sends.

`install(sender)` after `client.get_queue_sender(...)` or `get_topic_sender(...)`, sync or async. What is received needs
no installing: `@obs.consumer("audit-events", system="servicebus")` reads the library's messages as they are.
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
    """Observe what a sender sends: `send_messages` and `schedule_messages`. Again changes nothing.

    Each message gets the headers in its `application_properties`, unless it has a traceparent already.

    Args:
        sender: a `ServiceBusSender`, sync or async.
        settings: nothing; what a process reports with is said to `configure()` or `worker()`.
    """
    if getattr(sender, _MARK, False):
        return
    setattr(sender, _MARK, True)
    asynchronous = isinstance(sender, AsyncSender)
    for name in ("send_messages", "schedule_messages"):
        setattr(sender, name, (_async if asynchronous else _sync)(sender, getattr(sender, name)))


def _sync(sender: Any, send: Any) -> Any:
    def sending(messages: Any, *args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), str(sender.entity_name), SYSTEM, _count(messages)) as headers:
            _carry(messages, headers)
            return send(messages, *args, **kwargs)

    return sending


def _async(sender: Any, send: Any) -> Any:
    async def sending(messages: Any, *args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), str(sender.entity_name), SYSTEM, _count(messages)) as headers:
            _carry(messages, headers)
            return await send(messages, *args, **kwargs)

    return sending


def _count(messages: Any) -> int:
    if isinstance(messages, ServiceBusMessageBatch | list | tuple):
        return len(messages)
    return 1


def _carry(messages: Any, headers: dict[str, str]) -> None:
    """Put the headers on messages that are still to be encoded; those of a finished batch are bytes already."""
    for message in messages if isinstance(messages, list | tuple) else [messages]:
        if isinstance(message, ServiceBusMessage):
            present: dict[Any, Any] = dict(message.application_properties or {})
            if "traceparent" not in present and b"traceparent" not in present:
                message.application_properties = {**dict[Any, Any](headers), **present}

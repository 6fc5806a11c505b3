"""FastStream: job metrics and spans for messages, producer spans, and endpoints and health for its processes.

Call `install(broker)` where a RabbitMQ, Kafka, NATS or Redis broker is created, or `install(app)` with the FastStream
application, which also gives its process the endpoints.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from faststream import BaseMiddleware
from faststream.exceptions import AckMessage, NackMessage, RejectMessage, SkipMessage

from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import resolve
from connectsoft_obs.work.consumers import consumer
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEMS = {"rabbit": "rabbitmq", "confluent": "kafka"}
"""`messaging.system` of FastStream's brokers; other brokers keep the name of their package."""

_SUBSCRIPTIONS = ("subject", "queue", "topics", "topic", "channel", "list_sub", "stream_sub")
"""Attributes of handlers with what they subscribe to. `subject` is first: the `queue` of NATS is a group of consumers."""

_REJECTED = (NackMessage, RejectMessage, SkipMessage)
_MARK = "_connectsoft_obs"


def install(target: Any, **settings: Any) -> None:
    """Instrument a broker, or an application and its broker. Later calls have no effect.

    Args:
        target: the broker, or the `FastStream` application.
        settings: fields of `Settings` for an application (`service="reports"`), as `configure()` takes them.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    load_settings(os.environ, **settings)
    if getattr(target, _MARK, False):
        return
    setattr(target, _MARK, True)
    if hasattr(target, "insert_middleware"):
        target.insert_middleware(_middleware_factory(_system(target)))
        return
    if target.broker is not None:
        install(target.broker)
    worker_processes: list[WorkerProcess] = []

    async def start() -> None:
        worker_processes.append(WorkerProcess(resolve(**settings)))
        worker_processes[-1].start()

    async def drain() -> None:
        for worker_process in worker_processes:
            worker_process.drain()

    async def stop() -> None:
        while worker_processes:
            worker_processes.pop().stop()

    target.after_startup(start)
    target.on_shutdown(drain)
    target.after_shutdown(stop)


def _middleware_factory(system: str) -> Callable[..., BaseMiddleware[Any, Any]]:
    def create(message: Any, /, *, context: Any) -> BaseMiddleware[Any, Any]:
        return ObservabilityMiddleware(message, context=context, system=system)

    return create


class ObservabilityMiddleware(BaseMiddleware[Any, Any]):
    """The middleware of one message."""

    def __init__(self, message: Any, /, *, context: Any, system: str) -> None:
        super().__init__(message, context=context)
        self._system = system

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """Process a message and record its outcome: `AckMessage` is a success; nack, reject and skip are rejections.

        These exceptions of FastStream are re-raised.
        """
        message_consumer = consumer(self._subscription(msg), system=self._system, rejects=_REJECTED)
        ack: AckMessage | None = None
        with message_consumer.process(_to_messages(msg)):
            try:
                return await call_next(msg)
            except AckMessage as error:
                ack = error
        raise ack

    async def publish_scope(self, call_next: Callable[[Any], Awaitable[Any]], cmd: Any) -> Any:
        """Publish a message within a producer span, with its headers."""
        exchange = str(getattr(getattr(cmd, "exchange", None), "name", "") or "")
        count = max(1, len(getattr(cmd, "batch_bodies", ()) or ()))
        with Producer(
            resolve_or_none(), exchange or str(cmd.destination or "faststream"), self._system, count
        ) as headers:
            cmd.headers = {**(cmd.headers or {}), **headers}
            return await call_next(cmd)

    def _subscription(self, message: Any) -> str:
        """Return the subscription of the handler, which is static; a routing key may not be."""
        handler = self.context.get_local("handler_")
        for name in _SUBSCRIPTIONS:
            subscription = getattr(handler, name, None)
            if subscription:
                first = subscription[0] if isinstance(subscription, list | tuple) else subscription
                return str(getattr(first, "name", None) or getattr(first, "template", first))
        return str(getattr(message.raw_message, "routing_key", None) or "faststream")


def _to_messages(message: Any) -> Any:
    """Return a message, or the messages of a batch, with the metadata of FastStream and of its client library."""
    raw = message.raw_message
    if isinstance(raw, list | tuple):
        return [SimpleNamespace(headers=headers) for headers in message.batch_headers or [{}] * len(raw)]
    return SimpleNamespace(
        headers=message.headers,
        message_id=message.message_id,
        body=message.body,
        redelivered=getattr(raw, "redelivered", None),
        timestamp=getattr(raw, "timestamp", None),
    )


def _system(broker: Any) -> str:
    package = type(broker).__module__.split(".")[1]
    return SYSTEMS.get(package, package)

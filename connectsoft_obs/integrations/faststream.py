"""FastStream: every message a run, every publishing a span, every process with endpoints and health.

`install(broker)` where the broker is made, for RabbitMQ, Kafka, NATS and Redis brokers alike; `install(app)` for the
FastStream application gives its process endpoints as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from faststream import BaseMiddleware
from faststream.exceptions import AckMessage, NackMessage, RejectMessage, SkipMessage

from connectsoft_obs.telemetry import resolve
from connectsoft_obs.work.consumers import consumer
from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.worker_process import WorkerProcess

SYSTEMS = {"rabbit": "rabbitmq", "confluent": "kafka"}
"""`messaging.system` of FastStream's brokers; others are called what their package is called."""

_REJECTED = (NackMessage, RejectMessage, SkipMessage)
_MARK = "_connectsoft_obs"


def install(target: Any, **settings: Any) -> None:
    """Observe a broker, or an application and its broker. Again changes nothing.

    Args:
        target: the broker, or the `FastStream` application.
        settings: fields of `Settings` for an application (`service="reports"`), as `configure()` takes them.
    """
    if getattr(target, _MARK, False):
        return
    setattr(target, _MARK, True)
    if hasattr(target, "insert_middleware"):
        target.insert_middleware(_middleware(_system(target)))
        return
    if target.broker is not None:
        install(target.broker)
    serving: list[WorkerProcess] = []

    async def begin() -> None:
        serving.append(WorkerProcess(resolve(**settings)))
        serving[-1].start()

    async def drain() -> None:
        for one in serving:
            one.telemetry.health.drain()

    async def end() -> None:
        while serving:
            serving.pop().stop()

    target.after_startup(begin)
    target.on_shutdown(drain)
    target.after_shutdown(end)


def _middleware(system: str) -> Callable[..., BaseMiddleware[Any, Any]]:
    def make(message: Any, /, *, context: Any) -> BaseMiddleware[Any, Any]:
        return ObservabilityMiddleware(message, context=context, system=system)

    return make


class ObservabilityMiddleware(BaseMiddleware[Any, Any]):
    """The middleware of one message."""

    def __init__(self, message: Any, /, *, context: Any, system: str) -> None:
        super().__init__(message, context=context)
        self._system = system

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """Process a message, observed; what a handler raises to say what becomes of it is raised on."""
        taken = consumer(self._subscribed(msg), system=self._system, rejects=_REJECTED)
        acknowledged = None
        with taken.process(_delivered(msg)):
            try:
                return await call_next(msg)
            except AckMessage as verdict:
                acknowledged = verdict
        raise acknowledged

    async def publish_scope(self, call_next: Callable[[Any], Awaitable[Any]], cmd: Any) -> Any:
        """Publish a message, observed."""
        exchange = str(getattr(getattr(cmd, "exchange", None), "name", "") or "")
        count = max(1, len(getattr(cmd, "batch_bodies", ()) or ()))
        with Producer(
            resolve_or_none(), exchange or str(cmd.destination or "faststream"), self._system, count
        ) as headers:
            cmd.headers = {**(cmd.headers or {}), **headers}
            return await call_next(cmd)

    def _subscribed(self, message: Any) -> str:
        """What the handler subscribed to, which is static; a routing key need not be."""
        handler = self.context.get_local("handler_")
        for name in ("queue", "topics", "channel", "subject", "list", "stream"):
            found_ = getattr(handler, name, None)
            if found_:
                first = found_[0] if isinstance(found_, list | tuple) else found_
                return str(getattr(first, "name", first))
        return str(getattr(message.raw_message, "routing_key", None) or "faststream")


def _delivered(message: Any) -> Any:
    """A message, or each of a batch, with what FastStream and the library below it know of it."""
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

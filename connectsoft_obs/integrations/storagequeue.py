"""Azure Storage Queue: producer spans for queue clients.

Call `install(queue_client)`, sync or async. Storage queues have no headers, and message bodies are not changed: if the
body is a ConnectSoft event envelope, consumers read its ids, and `obs.inject(envelope)` adds the trace context to it.
Receivers need no installation: `@obs.consumer("reports", system="azure_storage_queue")`.
"""

from __future__ import annotations

from typing import Any

from azure.storage.queue.aio import QueueClient as AsyncQueueClient

from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none

SYSTEM = "azure_storage_queue"
_MARK = "_connectsoft_obs"


def install(client: Any, **settings: Any) -> None:
    """Instrument `send_message` of a queue client. Later calls have no effect.

    Args:
        client: a `QueueClient`, sync or async.
        settings: ignored; pass the settings of a process to `configure()` or `worker()`.
    """
    if getattr(client, _MARK, False):
        return
    setattr(client, _MARK, True)
    send, name = client.send_message, str(client.queue_name)

    def send_with_span(*args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), name, SYSTEM):
            return send(*args, **kwargs)

    async def send_with_span_async(*args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), name, SYSTEM):
            return await send(*args, **kwargs)

    client.send_message = send_with_span_async if isinstance(client, AsyncQueueClient) else send_with_span

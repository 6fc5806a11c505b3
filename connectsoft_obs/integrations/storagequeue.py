"""Azure Storage Queue: a span around what is sent.

`install(queue_client)`, sync or async. Storage queues have no headers, and what you send stays as it is: where the
body is a ConnectSoft event envelope its ids are read on the other side, and `obs.inject(envelope)` puts the trace into
it. What is received needs no installing: `@obs.consumer("reports", system="azure_storage_queue")`.
"""

from __future__ import annotations

from typing import Any

from azure.storage.queue.aio import QueueClient as AsyncQueueClient

from connectsoft_obs.work.producers import Producer
from connectsoft_obs.work.registry import resolve_or_none

SYSTEM = "azure_storage_queue"
_MARK = "_connectsoft_obs"


def install(client: Any, **settings: Any) -> None:
    """Observe what a queue client sends. Again changes nothing.

    Args:
        client: a `QueueClient`, sync or async.
        settings: nothing; what a process reports with is said to `configure()` or `worker()`.
    """
    if getattr(client, _MARK, False):
        return
    setattr(client, _MARK, True)
    send, name = client.send_message, str(client.queue_name)

    def sending(*args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), name, SYSTEM):
            return send(*args, **kwargs)

    async def sending_async(*args: Any, **kwargs: Any) -> Any:
        with Producer(resolve_or_none(), name, SYSTEM):
            return await send(*args, **kwargs)

    client.send_message = sending_async if isinstance(client, AsyncQueueClient) else sending

"""A test that any service can call: do its probes answer what the platforms in front of it expect?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import orjson

App = Callable[[Any, Any, Any], Awaitable[None]]
Message = MutableMapping[str, Any]

PROBES = ("/health/live", "/health/ready", "/health/startup")
_STATUSES = {"Healthy", "Degraded", "Unhealthy"}


def assert_probe_contract(app: App, *, ready_within: float = 5.0) -> None:
    """Start an ASGI application in process, ask its probes as platforms do, stop it.

    Every answer must be exactly 200 or 503, quick, not cacheable, and a report that the .NET Health Checks UI reads;
    liveness must be 200 throughout; readiness must become 200. Run it in a test function that is not async.

    Args:
        app: the application, our middleware included.
        ready_within: seconds that readiness may take.

    Raises:
        AssertionError: naming the probe, what it answered and who would be misled by that.
    """
    asyncio.run(_Service(app).check(ready_within))


class _Service:
    def __init__(self, app: App) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def check(self, ready_within: float) -> None:
        lifespan = asyncio.create_task(self._lifespan())
        await self._to_app.put({"type": "lifespan.startup"})
        message = await asyncio.wait_for(self._from_app.get(), 30)
        assert message["type"] != "lifespan.startup.failed", f"start-up failed: {message.get('message')}"
        deadline = asyncio.get_running_loop().time() + ready_within
        while (await self._probe("/health/ready"))["status"] != 200:
            assert asyncio.get_running_loop().time() < deadline, (
                f"/health/ready is not 200 within {ready_within} s of start-up: no traffic would ever arrive. "
                f"It says: {(await self._probe('/health/ready'))['body']!r}"
            )
            await asyncio.sleep(0.02)
        for path in PROBES:
            answer = await self._probe(path)
            assert answer["status"] == 200, f"{path} answers {answer['status']} although the service is ready"
            head = await self._ask("HEAD", path)
            assert head["status"] == 200, f"HEAD {path} answers {head['status']}; Application Gateway may ask so"
            assert not head["body"], f"HEAD {path} has a body"
        with suppress(asyncio.CancelledError):
            await self._to_app.put({"type": "lifespan.shutdown"})
            await asyncio.wait_for(lifespan, 30)

    async def _probe(self, path: str) -> Message:
        answer = await asyncio.wait_for(self._ask("GET", path), 1.0)
        status, headers = answer["status"], answer["headers"]
        assert status in (200, 503), f"{path} answers {status}; Azure Load Balancer takes only 200 for healthy"
        assert headers.get(b"cache-control") == b"no-store", f"{path} may be cached: a proxy would answer for the dead"
        assert b"location" not in headers, f"{path} redirects; App Service takes that for unhealthy"
        report = orjson.loads(answer["body"])
        assert report["status"] in _STATUSES, f"{path}: {report['status']!r} is no status of the Health Checks UI"
        assert isinstance(report["entries"], dict), f"{path}: entries are no object"
        assert report["ApplicationHealthState"] == ("Healthy" if status == 200 else "Unhealthy")
        return answer

    async def _ask(self, method: str, path: str) -> Message:
        answer: Message = {"body": b"", "status": 0, "headers": {}}

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.update(status=message["status"], headers=dict(message.get("headers", ())))
            elif message["type"] == "http.response.body":
                answer["body"] += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"user-agent", b"kube-probe/1.31")],
            "client": ("127.0.0.1", 40000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        await self._app(scope, receive, send)
        return answer

    async def _lifespan(self) -> None:
        try:
            await self._app(
                {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._to_app.get, self._from_app.put
            )
        except Exception as error:  # noqa: BLE001  an application without lifespan raises; one that fails told us why
            await self._from_app.put({"type": "lifespan.unsupported", "message": str(error)})

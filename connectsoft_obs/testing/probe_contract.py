"""An assertion for the health probes of a service: do the responses meet the requirements of hosting platforms?"""

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
    """Start an ASGI application in process, send requests to its probes as platforms do, and stop it.

    Each response must have status 200 or 503, arrive within one second, not be cacheable, and contain a report that the
    .NET Health Checks UI can read. All probes must return 200 after start-up. Call it from a test function that is not
    async.

    Args:
        app: the application, including `ObservabilityMiddleware`.
        ready_within: seconds until readiness must return 200.

    Raises:
        AssertionError: with the probe, its response and the platform that would misinterpret it.
    """
    asyncio.run(_ServiceProbes(app).check(ready_within))


class _ServiceProbes:
    def __init__(self, app: App) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def check(self, ready_within: float) -> None:
        lifespan = asyncio.create_task(self._run_lifespan())
        await self._to_app.put({"type": "lifespan.startup"})
        message = await asyncio.wait_for(self._from_app.get(), 30)
        assert message["type"] != "lifespan.startup.failed", f"start-up failed: {message.get('message')}"
        deadline = asyncio.get_running_loop().time() + ready_within
        while (await self._probe("/health/ready"))["status"] != 200:
            assert asyncio.get_running_loop().time() < deadline, (
                f"/health/ready does not return 200 within {ready_within} s of start-up, so the service gets no traffic. "
                f"Response: {(await self._probe('/health/ready'))['body']!r}"
            )
            await asyncio.sleep(0.02)
        for path in PROBES:
            response = await self._probe(path)
            assert response["status"] == 200, f"{path} returns {response['status']} although the service is ready"
            head = await self._send_request("HEAD", path)
            assert head["status"] == 200, (
                f"HEAD {path} returns {head['status']}; Application Gateway may probe with HEAD"
            )
            assert not head["body"], f"HEAD {path} has a body"
        with suppress(asyncio.CancelledError):
            await self._to_app.put({"type": "lifespan.shutdown"})
            await asyncio.wait_for(lifespan, 30)

    async def _probe(self, path: str) -> Message:
        response = await asyncio.wait_for(self._send_request("GET", path), 1.0)
        status, headers = response["status"], response["headers"]
        assert status in (200, 503), f"{path} returns {status}; Azure Load Balancer treats only 200 as healthy"
        assert headers.get(b"cache-control") == b"no-store", (
            f"{path} may be cached: a proxy could return a stale status"
        )
        assert b"location" not in headers, f"{path} redirects; App Service treats a redirect as unhealthy"
        report = orjson.loads(response["body"])
        assert report["status"] in _STATUSES, f"{path}: {report['status']!r} is not a status of the Health Checks UI"
        assert isinstance(report["entries"], dict), f"{path}: entries is not an object"
        assert report["ApplicationHealthState"] == ("Healthy" if status == 200 else "Unhealthy")
        return response

    async def _send_request(self, method: str, path: str) -> Message:
        response: Message = {"body": b"", "status": 0, "headers": {}}

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.update(status=message["status"], headers=dict(message.get("headers", ())))
            elif message["type"] == "http.response.body":
                response["body"] += message.get("body", b"")

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
        return response

    async def _run_lifespan(self) -> None:
        try:
            await self._app(
                {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._to_app.get, self._from_app.put
            )
        except Exception as error:  # noqa: BLE001  an application without lifespan support raises; a failed start-up was reported by a message
            await self._from_app.put({"type": "lifespan.unsupported", "message": str(error)})

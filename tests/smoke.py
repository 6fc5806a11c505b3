"""Smoke test of the installed wheel: package contents, and the telemetry of one request.

Run outside the source tree, so that the installed package is imported.
"""

import asyncio
from importlib import metadata
from importlib.resources import files
from typing import Any

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

assert metadata.version("connectsoft-obs") == obs.__version__
assert (files("connectsoft_obs") / "py.typed").is_file()
top_level = {str(path).partition("/")[0] for path in metadata.files("connectsoft-obs") or () if ".." not in str(path)}
assert {name for name in top_level if not name.endswith(".dist-info")} == {"connectsoft_obs"}, top_level


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """A minimal ASGI application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def main() -> None:
    """Send one request and one probe; check the span, the metric, the log line and the probe response."""
    app = obs.ObservabilityMiddleware(hello, service="smoke", route=lambda scope: "/hello")
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/hello", "headers": [], "query_string": b"", "scheme": "http"}
    with capture() as captured:
        await app(scope, receive, send)
        await app({**scope, "path": "/health/live"}, receive, send)
    assert sent[0]["status"] == 200
    assert (captured.span("GET /hello").attributes or {})["http.route"] == "/hello"
    assert captured.metric("http.server.request.duration", http_route="/hello").count == 1
    assert captured.log("GET /hello 200")["severity"] == "INFO"
    assert sent[2]["status"] == 200


asyncio.run(main())
print("smoke test passed")

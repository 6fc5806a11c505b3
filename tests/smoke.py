"""Run against the installed wheel, away from the sources: the one line works and the package is whole."""

import asyncio
from importlib import metadata
from importlib.resources import files
from typing import Any

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

assert metadata.version("connectsoft-obs") == obs.__version__
assert (files("connectsoft_obs") / "py.typed").is_file()
top = {str(path).partition("/")[0] for path in metadata.files("connectsoft-obs") or () if ".." not in str(path)}
assert {name for name in top if not name.endswith(".dist-info")} == {"connectsoft_obs"}, top


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The smallest ASGI application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def main() -> None:
    """One request, four signals."""
    app = obs.ObservabilityMiddleware(hello, service="smoke", route=lambda scope: "/hello")
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/hello", "headers": [], "query_string": b"", "scheme": "http"}
    with capture() as seen:
        await app(scope, receive, send)
        await app({**scope, "path": "/health/live"}, receive, send)
    assert sent[0]["status"] == 200
    assert (seen.span("GET /hello").attributes or {})["http.route"] == "/hello"
    assert seen.metric("http.server.request.duration", http_route="/hello").count == 1
    assert seen.log("GET /hello 200")["severity"] == "INFO"
    assert sent[2]["status"] == 200


asyncio.run(main())
print("the wheel works")

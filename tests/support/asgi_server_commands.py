"""The ASGI servers that services run on, each as an operator starts it."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from support.process import APPS, Service, free_port

SERVERS = {
    "uvicorn": ["uvicorn", "{app}", "--port", "{port}"],
    "uvicorn-asyncio": ["uvicorn", "{app}", "--port", "{port}", "--loop", "asyncio", "--http", "h11"],
    "uvicorn-without-lifespan": ["uvicorn", "{app}", "--port", "{port}", "--lifespan", "off"],
    "uvicorn-workers": ["uvicorn", "{app}", "--port", "{port}", "--workers", "2"],
    "gunicorn": ["gunicorn", "{app}", "-b", "127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker", "-w", "2"],
    "gunicorn-asgi": ["gunicorn", "{app}", "-b", "127.0.0.1:{port}", "-k", "asgi"],
    "granian": ["granian", "--interface", "asgi", "{app}", "--port", "{port}"],
    "granian-asyncio": ["granian", "--interface", "asgi", "{app}", "--port", "{port}", "--loop", "asyncio"],
    "hypercorn-alone": ["hypercorn", "{app}", "-b", "127.0.0.1:{port}", "--workers", "0"],
    "hypercorn": ["hypercorn", "{app}", "-b", "127.0.0.1:{port}"],
    "hypercorn-trio": ["hypercorn", "{app}", "-b", "127.0.0.1:{port}", "-k", "trio"],
}
"""Commands by name; the module of each server is run by the interpreter that runs the tests."""

HOOKED = [name for name in SERVERS if name not in ("hypercorn", "hypercorn-trio")]
"""Those whose SIGTERM can be put off."""


def serve(server: str, app: str, *options: str, port: int = 0, env: Mapping[str, str] | None = None) -> Service:
    """`tests/apps/<module>.py` under a server."""
    port = port or free_port()
    words = [word.format(app=app, port=port) for word in SERVERS[server]]
    command = [sys.executable, "-m", *words, *options]
    return Service(command, port, {"PYTHONPATH": str(APPS), **(env or {})})

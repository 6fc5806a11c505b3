"""Command lines of the ASGI servers that the package supports."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from support.process import APPS, Service, free_port

SERVER_COMMANDS = {
    "uvicorn": ["uvicorn", "{app}", "--port", "{port}"],
    "uvicorn-asyncio": ["uvicorn", "{app}", "--port", "{port}", "--loop", "asyncio", "--http", "h11"],
    "uvicorn-without-lifespan": ["uvicorn", "{app}", "--port", "{port}", "--lifespan", "off"],
    "uvicorn-workers": ["uvicorn", "{app}", "--port", "{port}", "--workers", "2"],
    "gunicorn": ["gunicorn", "{app}", "-b", "127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker", "-w", "2"],
    "gunicorn-asgi": ["gunicorn", "{app}", "-b", "127.0.0.1:{port}", "-k", "asgi"],
    "granian": ["granian", "--interface", "asgi", "{app}", "--port", "{port}"],
    "granian-asyncio": ["granian", "--interface", "asgi", "{app}", "--port", "{port}", "--loop", "asyncio"],
    "hypercorn-single-process": ["hypercorn", "{app}", "-b", "127.0.0.1:{port}", "--workers", "0"],
    "hypercorn": ["hypercorn", "{app}", "-b", "127.0.0.1:{port}"],
    "hypercorn-trio": ["hypercorn", "{app}", "-b", "127.0.0.1:{port}", "-k", "trio"],
}
"""Arguments of `python -m`, by the name of the configuration."""

SERVERS_WITH_DELAYED_SIGTERM = [name for name in SERVER_COMMANDS if name not in ("hypercorn", "hypercorn-trio")]
"""Servers that let the middleware delay their handling of SIGTERM."""


def start_server(server: str, app: str, *options: str, port: int = 0, env: Mapping[str, str] | None = None) -> Service:
    """Start `module:app` of tests/apps under a server."""
    port = port or free_port()
    arguments = [argument.format(app=app, port=port) for argument in SERVER_COMMANDS[server]]
    command = [sys.executable, "-m", *arguments, *options]
    return Service(command, port, {"PYTHONPATH": str(APPS), **(env or {})})

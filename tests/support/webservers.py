"""Starts services under each ASGI server with that server's own access log enabled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from support.process import APPS, Service, free_port

Launcher = Callable[..., Service]


def _start(command: list[str], port: int, env: Mapping[str, str] | None) -> Service:
    return Service([sys.executable, "-m", *command], port, env)


def uvicorn(app: str, *options: str, workers: int = 1, env: Mapping[str, str] | None = None) -> Service:
    """Uvicorn; a supervisor process only with more than one worker."""
    port = free_port()
    worker_options = ["--workers", str(workers)] if workers > 1 else []
    return _start(["uvicorn", app, "--app-dir", str(APPS), "--port", str(port), *worker_options, *options], port, env)


def gunicorn(app: str, *options: str, workers: int = 1, env: Mapping[str, str] | None = None) -> Service:
    """Gunicorn with uvicorn's worker class."""
    return _gunicorn(app, "uvicorn_worker.UvicornWorker", options, workers, env)


def gunicorn_asgi(app: str, *options: str, workers: int = 1, env: Mapping[str, str] | None = None) -> Service:
    """Gunicorn with its own ASGI worker."""
    return _gunicorn(app, "asgi", options, workers, env)


def hypercorn(app: str, *options: str, workers: int = 1, env: Mapping[str, str] | None = None) -> Service:
    """Hypercorn."""
    port = free_port()
    bind = ["-b", f"127.0.0.1:{port}", "-w", str(workers)]
    return _start(["hypercorn", app, *bind, "--access-logfile", "-", *options], port, env)


def granian(app: str, *options: str, workers: int = 1, env: Mapping[str, str] | None = None) -> Service:
    """Granian."""
    port = free_port()
    bind = ["--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    return _start(["granian", app, *bind, "--access-log", *options], port, env)


def _gunicorn(
    app: str, worker_class: str, options: tuple[str, ...], workers: int, env: Mapping[str, str] | None
) -> Service:
    port = free_port()
    bind = ["-b", f"127.0.0.1:{port}", "-w", str(workers), "-k", worker_class, "--no-control-socket"]
    return _start(["gunicorn", app, *bind, "--access-logfile", "-", *options], port, env)


LAUNCHERS: dict[str, Launcher] = {
    "uvicorn": uvicorn,
    "gunicorn": gunicorn,
    "gunicorn_asgi": gunicorn_asgi,
    "hypercorn": hypercorn,
    "granian": granian,
}

"""Private names of other projects still exist in the installed versions; a failure names the version that removed one."""

from __future__ import annotations

import asyncio
import multiprocessing
import platform
import re
import signal
import threading
import time
from concurrent.futures import Future
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn._subprocess import get_subprocess

from connectsoft_obs.process.cpython_internals import (
    is_loop_signal_handler,
    limit_start_wait,
    process_keyword_arguments,
    stored_exception,
)
from connectsoft_obs.process.uvicorn_internals import call_after_serving, is_reload_worker, is_websocket_access_record

CPYTHON = f"CPython {platform.python_version()}"
UVICORN = f"uvicorn {version('uvicorn')}"
UVLOOP = f"uvloop {version('uvloop')}"
GUNICORN = f"gunicorn {version('gunicorn')}"


def test_exception_of_a_task_is_readable_without_retrieving_it() -> None:
    async def fail() -> None:
        raise LookupError

    async def main() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])
        assert isinstance(stored_exception(task), LookupError), f"{CPYTHON}: asyncio.Task._exception"
        assert getattr(task, "_log_traceback", None) is True, f"{CPYTHON}: the exception counts as retrieved"
        task.exception()

    asyncio.run(main())
    future: Future[None] = Future()
    future.set_exception(LookupError())
    assert isinstance(stored_exception(future), LookupError), f"{CPYTHON}: concurrent.futures.Future._exception"


def test_start_of_a_thread_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "_bootstrap", lambda _: None)
    thread = threading.Thread(daemon=True)
    limit_start_wait(thread, 0.05)
    try:
        with pytest.raises(TimeoutError):
            thread.start()
    finally:
        getattr(threading, "_limbo", {}).pop(thread, None)
    assert not thread.is_alive(), f"{CPYTHON}: threading.Thread._started"


@pytest.mark.parametrize(
    ("new_event_loop", "project"), [(asyncio.new_event_loop, CPYTHON), (uvloop.new_event_loop, UVLOOP)]
)
def test_signal_handler_of_an_event_loop_is_recognised(new_event_loop: Any, project: str) -> None:
    original_handler = signal.getsignal(signal.SIGUSR1)
    loop = new_event_loop()

    async def main() -> None:
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        assert is_loop_signal_handler(signal.getsignal(signal.SIGUSR1), loop), f"{project}: module of the handler"
        assert not is_loop_signal_handler(lambda *_: None, loop)
        loop.remove_signal_handler(signal.SIGUSR1)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
        signal.signal(signal.SIGUSR1, original_handler)


@pytest.mark.parametrize("protocol", ["websockets_impl", "websockets_sansio_impl", "wsproto_impl"])
def test_uvicorn_records_of_websocket_handshakes_are_recognised(protocol: str) -> None:
    spec = find_spec(f"uvicorn.protocols.websockets.{protocol}")
    assert spec is not None
    assert spec.origin is not None
    formats = re.findall(r"'(%s - .*)',\n", Path(spec.origin).read_text())
    assert len(formats) == 3, f"{UVICORN}: {protocol}"
    assert all(is_websocket_access_record("uvicorn.error", text) for text in formats), f"{UVICORN}: {protocol}"


@pytest.mark.parametrize("reload", [True, False])
def test_uvicorn_reload_worker_is_recognised(reload: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = uvicorn.Config("lifecycle:app", reload=reload)
    worker = get_subprocess(config, lambda *_: None, [])
    monkeypatch.setattr(multiprocessing, "current_process", lambda: worker)
    assert process_keyword_arguments(), f"{CPYTHON}: multiprocessing.Process._kwargs"
    assert process_keyword_arguments().get("config") is config, f"{UVICORN}: keyword argument `config` of workers"
    assert is_reload_worker() is reload, f"{UVICORN}: Config.should_reload"


def test_callback_follows_the_lifespan_of_a_uvicorn_server() -> None:
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no lifespan")

    async def callback() -> None:
        calls.append("after serving")

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        with server.capture_signals():
            serving = asyncio.create_task(server._serve())
            deadline = time.monotonic() + 10
            while not server.started and time.monotonic() < deadline:  # noqa: ASYNC110  uvicorn has no event for it
                await asyncio.sleep(0.01)
            assert call_after_serving(callback), f"{UVICORN}: the owner of the SIGINT handler, Server.lifespan.shutdown"
            assert not calls
            server.should_exit = True
            await serving

    asyncio.run(main())
    assert calls == ["after serving"], f"{UVICORN}: Server.lifespan.shutdown"
    assert not call_after_serving(callback), "no server runs any more"


def test_main_process_is_no_uvicorn_reload_worker() -> None:
    assert not is_reload_worker()


def test_gunicorn_worker_imports_the_arbiter() -> None:
    assert find_spec("gunicorn.arbiter") is not None, f"{GUNICORN}: gunicorn.arbiter"

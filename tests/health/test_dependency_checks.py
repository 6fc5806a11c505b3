"""Built-in dependency checks against real servers: they pass, fail when the server stops, and leak no connections."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import asyncpg
import azure.servicebus
import azure.servicebus.aio
import httpx
import psycopg_pool
import pytest
import redis
import redis.asyncio
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from support.process import free_port, wait_for
from support.servers import program_path, running_server

import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks


async def run_check(check: Callable[[], Any], seconds: float = 3.0) -> BaseException | None:
    """Run a check as health does, a sync part in a thread and an awaitable on the loop, and return its exception."""
    try:
        async with asyncio.timeout(seconds):
            if inspect.iscoroutinefunction(check):
                await check()
            else:
                result = await asyncio.to_thread(check)
                if inspect.isawaitable(result):
                    await result
    except Exception as error:
        return error
    return None


async def wait_for_result(check: Callable[[], Any], passes: bool, seconds: float = 30) -> BaseException | None:
    """Run a check until it passes, or fails, and return its last exception."""
    error: BaseException | None = None
    async with asyncio.timeout(seconds):
        while ((error := await run_check(check)) is None) is not passes:  # noqa: ASYNC110  a server starts or stops
            await asyncio.sleep(0.1)
    return error


def connection_count(port: int, pid: int) -> int:
    """The number of established connections of this process to a port."""
    rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    remote = f":{port:04X}"
    return sum(row.split()[2].endswith(remote) and row.split()[3] == "01" for row in rows)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------
@contextmanager
def postgres(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        program_path("postgres"),
        "-D",
        str(folder / "data"),
        "-p",
        str(port),
        "-k",
        str(folder),
        "-c",
        "fsync=off",
    ]
    with running_server(command, port, user=server_user()) as process:
        ready = [program_path("pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 20, "PostgreSQL")
        yield process


def make_accessible(folder: Path) -> None:
    """Let servers that run as another user write to a temporary folder of pytest."""
    for parent in folder.parents:
        if parent != Path("/tmp") and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    folder.chmod(0o777)


def server_user() -> str | None:
    """The user of the server; PostgreSQL refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("postgres")
    if server_user():
        make_accessible(folder)
        shutil.chown(folder, "postgres")
    command = [program_path("initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "shop", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, user=server_user(), cwd=folder, timeout=60)
    return folder


async def asyncpg_pool(address: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    pool = await asyncpg.create_pool(address, min_size=1, max_size=2)
    return dependency_checks.asyncpg(pool), pool.close


async def psycopg_sync(address: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    pool = psycopg_pool.ConnectionPool(address, min_size=1, max_size=2, open=True, timeout=2)
    return dependency_checks.psycopg(lambda: pool), partial(asyncio.to_thread, pool.close)


async def psycopg_async(address: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    pool = psycopg_pool.AsyncConnectionPool(address, min_size=1, max_size=2, open=False, timeout=2)
    await pool.open()
    return dependency_checks.psycopg(pool), pool.close


async def sqlalchemy_sync(address: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    engine = sqlalchemy.create_engine(address.replace("postgresql:", "postgresql+psycopg:"), pool_size=1)
    return dependency_checks.sqlalchemy(engine), partial(asyncio.to_thread, engine.dispose)


async def sqlalchemy_async(address: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    engine = create_async_engine(address.replace("postgresql:", "postgresql+asyncpg:"), pool_size=1)
    return dependency_checks.sqlalchemy(lambda: engine), engine.dispose


@pytest.mark.parametrize("create_check", [asyncpg_pool, psycopg_sync, psycopg_async, sqlalchemy_sync, sqlalchemy_async])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of drivers whose server was killed
def test_database_pool_check(create_check: Any, database: Path) -> None:
    port = free_port()

    async def main() -> None:
        with postgres(database, port) as server:
            check, close = await create_check(f"postgresql://shop@127.0.0.1:{port}/postgres")
            await wait_for_result(check, passes=True)
            before = connection_count(port, os.getpid())
            for _ in range(20):
                assert await run_check(check) is None
            assert connection_count(port, os.getpid()) <= max(before, 1), "each run opened a connection"
            os.killpg(server.pid, signal.SIGQUIT)
            server.wait(10)
            assert await wait_for_result(check, passes=False) is not None
        with postgres(database, port):
            await wait_for_result(check, passes=True)
            await close()

    asyncio.run(main())


def test_pool_that_is_not_created_yet_fails() -> None:
    pools: list[Any] = [None]
    check = dependency_checks.asyncpg(lambda: pools[0])
    assert str(asyncio.run(run_check(check))) == "not created yet"
    pools[0] = object()
    assert str(asyncio.run(run_check(check))) == "object has no fetchval()"


def test_sqlalchemy_check_of_sqlite(tmp_path: Path) -> None:
    assert (
        asyncio.run(run_check(dependency_checks.sqlalchemy(sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'a.db'}"))))
        is None
    )

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
        assert await run_check(dependency_checks.sqlalchemy(engine)) is None
        await engine.dispose()

    asyncio.run(main())


# --- Redis -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_redis_check(kind: str) -> None:
    port = free_port()
    command = [program_path("redis-server"), "--port", str(port), "--save", "", "--appendonly", "no"]

    async def main() -> None:
        client: Any = (redis.asyncio.Redis if kind == "async" else redis.Redis)(port=port, retry=None)  # type: ignore[operator,arg-type,unused-ignore]
        check = dependency_checks.redis(client)
        with running_server(command, port):
            await wait_for_result(check, passes=True)
            for _ in range(20):
                assert await run_check(check) is None
            assert connection_count(port, os.getpid()) == 1
        assert await wait_for_result(check, passes=False) is not None
        with running_server(command, port):
            await wait_for_result(check, passes=True)
            if kind == "async":
                await client.aclose()
            else:
                client.close()

    asyncio.run(main())


# --- RabbitMQ --------------------------------------------------------------------------------------------------------
@contextmanager
def rabbitmq(folder: Path, port: int, epmd: int) -> Iterator[None]:
    """A broker in a process group that the test can end; Debian's wrapper would start another group with `su`."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # so that the test can stop it
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_NODENAME": f"health{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
    }
    user = "rabbitmq" if os.geteuid() == 0 else None
    program_path("rabbitmq-server")
    with running_server(["/usr/lib/rabbitmq/bin/rabbitmq-server"], port, seconds=60, env=env, user=user, cwd=folder):
        yield


@pytest.mark.full
def test_rabbitmq_check(tmp_path: Path) -> None:
    make_accessible(tmp_path)
    port, epmd = free_port(), free_port()

    async def main() -> None:
        with rabbitmq(tmp_path, port, epmd):
            connection = await aio_pika.connect_robust(f"amqp://guest:guest@127.0.0.1:{port}/", timeout=30)
            check = dependency_checks.rabbitmq(connection)
            await wait_for_result(check, passes=True)
            for _ in range(5):
                assert await run_check(check) is None
        assert await wait_for_result(check, passes=False) is not None
        with rabbitmq(tmp_path, port, epmd):
            await wait_for_result(check, passes=True, seconds=60)
            await connection.close()
        assert str(await run_check(check)) == "not connected"

    try:
        asyncio.run(main())
    finally:  # Erlang leaves its name server running, on a port of this test
        env = {"PATH": os.environ["PATH"], "ERL_EPMD_PORT": str(epmd)}
        subprocess.run([program_path("epmd"), "-kill"], env=env, check=False, capture_output=True, timeout=10)


# --- HTTP ------------------------------------------------------------------------------------------------------------
class Site:
    """An HTTP server that responds with a status and counts connections."""

    def __init__(self) -> None:
        self.status = 200
        self.connections = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                site.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self.send_response(site.status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/health?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


@pytest.mark.parametrize("kind", ["none", "httpx", "httpx-async", "aiohttp"])
def test_url_check_uses_the_client_or_one_persistent_connection(kind: str, site: Site) -> None:
    async def main() -> None:
        clients: dict[str, Any] = {
            "none": lambda: None,
            "httpx": httpx.Client,
            "httpx-async": httpx.AsyncClient,
            "aiohttp": aiohttp.ClientSession,
        }
        client: Any = clients[kind]()
        check = dependency_checks.url(site.url, client)
        for _ in range(10):
            assert await run_check(check) is None
        assert site.connections == 1
        for status in (302, 399):
            site.status = status
            assert await run_check(check) is None
        for status in (400, 404, 500, 503):
            site.status = status
            assert str(await run_check(check)) == f"returned status {status}"
        if client is not None:
            closing = (client.aclose if kind == "httpx-async" else client.close)()
            if inspect.isawaitable(closing):
                await closing

    asyncio.run(main())


def test_url_check_reopens_a_closed_connection() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    responses = 0

    def serve() -> None:
        nonlocal responses
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:  # closes after one response, without a connection header
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                responses += 1

    threading.Thread(target=serve, daemon=True).start()
    check = dependency_checks.url(f"http://127.0.0.1:{listener.getsockname()[1]}")
    for number in range(1, 4):
        assert asyncio.run(run_check(check)) is None
        wait_for(lambda number=number: responses == number)  # type: ignore[misc]
    listener.close()


def test_invalid_url_is_rejected() -> None:
    for address in ("ftp://a", "a/b", "http://", ""):
        with pytest.raises(obs.ConfigurationError, match="http"):
            dependency_checks.url(address)


# --- Azure Service Bus: its emulator needs a container, so only the interface is checked -----------------------------
@pytest.mark.parametrize("asynchronous", [True, False])
def test_service_bus_check_peeks_at_one_message(asynchronous: bool) -> None:
    peeked: list[Any] = []
    real = (azure.servicebus.aio if asynchronous else azure.servicebus).ServiceBusReceiver.peek_messages
    inspect.signature(real).bind(None, max_message_count=1)  # TypeError if it has other parameters
    assert inspect.iscoroutinefunction(real) is asynchronous

    class Receiver:
        def peek_messages(self, max_message_count: int = 1) -> Any:
            peeked.append(max_message_count)

            async def no_messages() -> list[Any]:
                return []

            return no_messages() if asynchronous else []

    assert asyncio.run(run_check(dependency_checks.service_bus(Receiver()))) is None
    assert peeked == [1]

"""Ready-made checks on the objects that applications have, against real servers: green, red when they go, no leak."""

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
from support.servers import program, running

import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks


async def result(check: Callable[[], Any], seconds: float = 3.0) -> BaseException | None:
    """What a check raises when it is run as health runs it: a sync part in a thread, an awaitable on the loop."""
    try:
        async with asyncio.timeout(seconds):
            if inspect.iscoroutinefunction(check):
                await check()
            else:
                found = await asyncio.to_thread(check)
                if inspect.isawaitable(found):
                    await found
    except Exception as error:
        return error
    return None


async def becomes(check: Callable[[], Any], good: bool, seconds: float = 30) -> BaseException | None:
    """Run a check until it passes, or fails; what it raised then."""
    error: BaseException | None = None
    async with asyncio.timeout(seconds):
        while ((error := await result(check)) is None) is not good:  # noqa: ASYNC110  a server comes or goes
            await asyncio.sleep(0.1)
    return error


def connections(port: int, pid: int) -> int:
    """Established connections of this process to a port."""
    rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    remote = f":{port:04X}"
    return sum(row.split()[2].endswith(remote) and row.split()[3] == "01" for row in rows)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------
@contextmanager
def postgres(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [program("postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
    with running(command, port, user=owner()) as process:
        ready = [program("pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 20, "PostgreSQL")
        yield process


def reachable(folder: Path) -> None:
    """Servers that give up being root must still get to a folder of pytest's, and write there."""
    for place in folder.parents:
        if place != Path("/tmp") and str(place).startswith("/tmp/"):
            place.chmod(0o755)
    folder.chmod(0o777)


def owner() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("postgres")
    if owner():
        reachable(folder)
        shutil.chown(folder, "postgres")
    command = [program("initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "shop", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, user=owner(), cwd=folder, timeout=60)
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


@pytest.mark.parametrize("made", [asyncpg_pool, psycopg_sync, psycopg_async, sqlalchemy_sync, sqlalchemy_async])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # drivers at a server that was killed
def test_a_database_pool_that_the_application_has(made: Any, database: Path) -> None:
    port = free_port()

    async def main() -> None:
        with postgres(database, port) as server:
            check, close = await made(f"postgresql://shop@127.0.0.1:{port}/postgres")
            await becomes(check, good=True)
            before = connections(port, os.getpid())
            for _ in range(20):
                assert await result(check) is None
            assert connections(port, os.getpid()) <= max(before, 1), "a connection for each run"
            os.killpg(server.pid, signal.SIGQUIT)
            server.wait(10)
            assert await becomes(check, good=False) is not None
        with postgres(database, port):
            await becomes(check, good=True)
            await close()

    asyncio.run(main())


def test_a_pool_that_is_made_later_is_not_there_yet() -> None:
    found: list[Any] = [None]
    check = dependency_checks.asyncpg(lambda: found[0])
    assert str(asyncio.run(result(check))) == "not there yet"
    found[0] = object()
    assert str(asyncio.run(result(check))) == "object has no fetchval()"


def test_sqlite_through_sqlalchemy(tmp_path: Path) -> None:
    assert (
        asyncio.run(result(dependency_checks.sqlalchemy(sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'a.db'}"))))
        is None
    )

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
        assert await result(dependency_checks.sqlalchemy(engine)) is None
        await engine.dispose()

    asyncio.run(main())


# --- Redis -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_redis_client(kind: str) -> None:
    port = free_port()
    command = [program("redis-server"), "--port", str(port), "--save", "", "--appendonly", "no"]

    async def main() -> None:
        client: Any = (redis.asyncio.Redis if kind == "async" else redis.Redis)(port=port, retry=None)  # type: ignore[operator,arg-type,unused-ignore]
        check = dependency_checks.redis(client)
        with running(command, port):
            await becomes(check, good=True)
            for _ in range(20):
                assert await result(check) is None
            assert connections(port, os.getpid()) == 1
        assert await becomes(check, good=False) is not None
        with running(command, port):
            await becomes(check, good=True)
            if kind == "async":
                await client.aclose()
            else:
                client.close()

    asyncio.run(main())


# --- RabbitMQ --------------------------------------------------------------------------------------------------------
@contextmanager
def rabbitmq(folder: Path, port: int, epmd: int) -> Iterator[None]:
    """A broker whose whole process group is ours to end; Debian's wrapper would give it another one by `su`."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # so that it can be ended at the end of the test
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_NODENAME": f"health{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
    }
    user = "rabbitmq" if os.geteuid() == 0 else None
    program("rabbitmq-server")
    with running(["/usr/lib/rabbitmq/bin/rabbitmq-server"], port, seconds=60, env=env, user=user, cwd=folder):
        yield


@pytest.mark.full
def test_a_rabbitmq_connection(tmp_path: Path) -> None:
    reachable(tmp_path)
    port, epmd = free_port(), free_port()

    async def main() -> None:
        with rabbitmq(tmp_path, port, epmd):
            connection = await aio_pika.connect_robust(f"amqp://guest:guest@127.0.0.1:{port}/", timeout=30)
            check = dependency_checks.rabbitmq(connection)
            await becomes(check, good=True)
            for _ in range(5):
                assert await result(check) is None
        assert await becomes(check, good=False) is not None
        with rabbitmq(tmp_path, port, epmd):
            await becomes(check, good=True, seconds=60)
            await connection.close()
        assert str(await result(check)) == "not connected"

    try:
        asyncio.run(main())
    finally:  # the name server that Erlang leaves running, on a port of this test's own
        env = {"PATH": os.environ["PATH"], "ERL_EPMD_PORT": str(epmd)}
        subprocess.run([program("epmd"), "-kill"], env=env, check=False, capture_output=True, timeout=10)


# --- HTTP ------------------------------------------------------------------------------------------------------------
class Site:
    """A server that answers with a status and counts connections."""

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
    found = Site()
    yield found
    found.close()


@pytest.mark.parametrize("kind", ["none", "httpx", "httpx-async", "aiohttp"])
def test_an_http_address_through_the_client_that_is_there_or_one_kept_connection(kind: str, site: Site) -> None:
    async def main() -> None:
        make: dict[str, Any] = {
            "none": lambda: None,
            "httpx": httpx.Client,
            "httpx-async": httpx.AsyncClient,
            "aiohttp": aiohttp.ClientSession,
        }
        client: Any = make[kind]()
        check = dependency_checks.url(site.url, client)
        for _ in range(10):
            assert await result(check) is None
        assert site.connections == 1
        for status in (302, 399):
            site.status = status
            assert await result(check) is None
        for status in (400, 404, 500, 503):
            site.status = status
            assert str(await result(check)) == f"answered {status}"
        if client is not None:
            closing = (client.aclose if kind == "httpx-async" else client.close)()
            if inspect.isawaitable(closing):
                await closing

    asyncio.run(main())


def test_a_kept_connection_that_the_other_side_has_closed_is_opened_again() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    answers = 0

    def serve() -> None:
        nonlocal answers
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            with one:  # one answer a connection, without saying so
                one.recv(4096)
                one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                answers += 1

    threading.Thread(target=serve, daemon=True).start()
    check = dependency_checks.url(f"http://127.0.0.1:{listener.getsockname()[1]}")
    for number in range(1, 4):
        assert asyncio.run(result(check)) is None
        wait_for(lambda number=number: answers == number)  # type: ignore[misc]
    listener.close()


def test_an_address_that_is_none_is_refused_at_start() -> None:
    for address in ("ftp://a", "a/b", "http://", ""):
        with pytest.raises(obs.ConfigurationError, match="http"):
            dependency_checks.url(address)


# --- Azure Service Bus: there is no emulator that installs without a container, so the interface is what is held ------
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_service_bus_receiver_is_peeked_at(asynchronous: bool) -> None:
    peeked: list[Any] = []
    real = (azure.servicebus.aio if asynchronous else azure.servicebus).ServiceBusReceiver.peek_messages
    inspect.signature(real).bind(None, max_message_count=1)  # TypeError if it took something else
    assert inspect.iscoroutinefunction(real) is asynchronous

    class Receiver:
        def peek_messages(self, max_message_count: int = 1) -> Any:
            peeked.append(max_message_count)

            async def none() -> list[Any]:
                return []

            return none() if asynchronous else []

    assert asyncio.run(result(dependency_checks.service_bus(Receiver()))) is None
    assert peeked == [1]

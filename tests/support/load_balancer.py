"""A load balancer and its clients, to count failed requests during a rolling restart.

The load balancer probes the readiness of each instance every second and never retries a request. Each client sends one
request at a time; half of the clients open a new connection for every request, through to the instance.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"


def stable_port() -> int:
    """A port that stays free while no process listens on it.

    It is below the ephemeral ports of outgoing connections (32768 and up on Linux): with hundreds of connections a
    second, one of them would sometimes take the port of an instance that is restarting.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class LoadBalancer:
    """Distributes requests round robin over the ready instances, which are identified by their ports."""

    def __init__(self, ports: list[int], period: float = 1.0, path: str = "/health/ready") -> None:
        self.port = stable_port()
        self.ready: dict[int, bool] = dict.fromkeys(ports, False)
        self.failures: Counter[str] = Counter()
        self._period = period
        self._path = path
        self._next = 0
        self.leaving: set[int] = set()
        self._idle: dict[int, list[tuple[float, Stream]]] = {port: [] for port in ports}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Probe and serve until cancelled."""
        server = await asyncio.start_server(self._serve_client, "127.0.0.1", self.port, backlog=1024)
        try:
            async with server, asyncio.TaskGroup() as group:
                for port in self.ready:
                    group.create_task(self._probe(port))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for connections in self._idle.values():
                for _, (_, writer) in connections:
                    writer.close()
            await asyncio.sleep(0.05)

    def stop_routing_to(self, port: int) -> None:
        """Send no requests to an instance until a probe has seen it unready and a later one ready."""
        self.leaving.add(port)
        self.ready[port] = False

    async def _probe(self, port: int) -> None:
        while True:
            started = time.monotonic()
            try:
                async with asyncio.timeout(0.9):
                    head, _ = await self._forward(port, f"GET {self._path} HTTP/1.1\r\nhost: p\r\n", keep_alive=False)
                ready = b" 200 " in head.split(b"\r\n")[0]
            except (OSError, EOFError, TimeoutError):
                ready = False
            if not ready:
                self.leaving.discard(port)
            self.ready[port] = ready and port not in self.leaving
            await asyncio.sleep(max(self._period - (time.monotonic() - started), 0))

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while request := await _read_head(reader):
                keep_alive = b"connection: close" not in request.lower()
                writer.write(await self._respond(request, keep_alive))
                await writer.drain()
                if not keep_alive:
                    return
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client disconnected, or the test is over
        finally:
            writer.close()

    async def _respond(self, request: bytes, keep_alive: bool) -> bytes:
        ready = [port for port, is_ready in self.ready.items() if is_ready]
        if not ready:
            self.failures["no instance is ready"] += 1
            return _BAD_GATEWAY
        self._next += 1
        port = ready[self._next % len(ready)]
        try:
            head, body = await self._forward(port, request.decode().removesuffix("\r\n"), keep_alive)
        except (OSError, EOFError) as error:
            self.failures[type(error).__name__] += 1
            return _BAD_GATEWAY
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join(lines) + body

    async def _forward(self, port: int, request: str, keep_alive: bool) -> tuple[bytes, bytes]:
        """Send one request over an idle or a new connection; return the head and the body of the response."""
        stream = self._take_idle(port) if keep_alive else None
        reader, writer = stream or await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request.encode() + (b"\r\n" if keep_alive else b"connection: close\r\n\r\n"))
            await writer.drain()
            if not (head := await _read_head(reader)):
                raise asyncio.IncompleteReadError(b"", None)
            body = await _read_body(reader, head)
        except BaseException:
            writer.close()
            raise
        if keep_alive and b"connection: close" not in head.lower():
            self._idle[port].append((time.monotonic(), (reader, writer)))
        else:
            writer.close()
        return head, body

    def _take_idle(self, port: int) -> Stream | None:
        while self._idle[port]:
            idle_since, (reader, writer) = self._idle[port].pop()
            # Shorter than the idle timeout of any server (gunicorn's is 2 s), as load balancers must be configured.
            if time.monotonic() - idle_since < 1.0 and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    return await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0))


class Clients:
    """Clients that send a number of requests a second and count the responses by status or error."""

    def __init__(self, port: int, rate: int = 200, number: int = 20) -> None:
        self.responses: Counter[str] = Counter()
        self.started = 0.0
        self._port = port
        self._pause = number / rate
        self._number = number

    @property
    def failure_count(self) -> int:
        """The number of requests that were not answered with 200."""
        return sum(count for status, count in self.responses.items() if status != "200")

    async def run(self) -> None:
        """Send until cancelled."""
        self.started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(self._number):
                await asyncio.sleep(self._pause / self._number)
                group.create_task(self._run_client(keep_alive=number % 2 == 0))

    async def _run_client(self, keep_alive: bool) -> None:
        connection: list[Stream] = []
        due = time.monotonic()
        try:
            while True:
                try:
                    self.responses[await self._send_request(connection, keep_alive)] += 1
                except (OSError, EOFError) as error:
                    self.responses[type(error).__name__] += 1
                    reusable = False
                else:
                    reusable = keep_alive
                if connection and not reusable:
                    connection.pop()[1].close()
                due += self._pause
                await asyncio.sleep(max(due - time.monotonic(), 0))
        finally:
            for _, writer in connection:
                writer.close()
            await asyncio.sleep(0.01)

    async def _send_request(self, connection: list[Stream], keep_alive: bool) -> str:
        if not connection:
            connection.append(await asyncio.open_connection("127.0.0.1", self._port))
        reader, writer = connection[0]
        close_header = b"" if keep_alive else b"connection: close\r\n"
        writer.write(b"GET /hello HTTP/1.1\r\nhost: x\r\n" + close_header + b"\r\n")
        if not (head := await _read_head(reader)):
            raise asyncio.IncompleteReadError(b"", None)
        await _read_body(reader, head)
        return head.split()[1].decode()


class BackgroundTasks:
    """A context manager that runs coroutine functions in an event loop of a background thread."""

    def __init__(self, *functions: Callable[[], Awaitable[Any]]) -> None:
        self._functions = functions
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> BackgroundTasks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._main_task.cancel)
        self._thread.join(10)

    def _run(self) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for function in self._functions:
                    group.create_task(function())  # type: ignore[arg-type]

        self._main_task = self._loop.create_task(main())
        try:
            self._loop.run_until_complete(self._main_task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

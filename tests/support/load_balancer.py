"""A load balancer and its clients: what a rolling restart looks like from outside.

The proxy asks each instance for its readiness every second, as load balancers do, and never repeats a request. Clients
send one request at a time each, half of them on a new connection for every request, all the way to the instance.
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


def lasting_port() -> int:
    """A port that stays free while nobody listens on it.

    Below those that the system gives to outgoing connections (32768 and up on Linux): of hundreds of them a second, one
    now and then takes the port of an instance that is being restarted.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Proxy:
    """Round robin over the instances that are ready, by their ports."""

    def __init__(self, ports: list[int], period: float = 1.0, path: str = "/health/ready") -> None:
        self.port = lasting_port()
        self.ready: dict[int, bool] = dict.fromkeys(ports, False)
        self.reasons: Counter[str] = Counter()
        self._period = period
        self._path = path
        self._next = 0
        self.leaving: set[int] = set()
        self._idle: dict[int, list[tuple[float, Stream]]] = {port: [] for port in ports}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Probe and serve until cancelled."""
        server = await asyncio.start_server(self._client, "127.0.0.1", self.port, backlog=1024)
        try:
            async with server, asyncio.TaskGroup() as group:
                for port in self.ready:
                    group.create_task(self._probe(port))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for kept in self._idle.values():
                for _, (_, writer) in kept:
                    writer.close()
            await asyncio.sleep(0.05)

    def leaves(self, port: int) -> None:
        """Route nothing more to an instance until it has been seen not ready."""
        self.leaving.add(port)
        self.ready[port] = False

    async def _probe(self, port: int) -> None:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(0.9):
                    head, _ = await self._ask(port, f"GET {self._path} HTTP/1.1\r\nhost: p\r\n", keep=False)
                ready = b" 200 " in head.split(b"\r\n")[0]
            except (OSError, EOFError, TimeoutError):
                ready = False
            if not ready:
                self.leaving.discard(port)
            self.ready[port] = ready and port not in self.leaving
            await asyncio.sleep(max(self._period - (time.monotonic() - began), 0))

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while request := await _head(reader):
                keep = b"connection: close" not in request.lower()
                writer.write(await self._answer(request, keep))
                await writer.drain()
                if not keep:
                    return
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.close()

    async def _answer(self, request: bytes, keep: bool) -> bytes:
        ready = [port for port, up in self.ready.items() if up]
        if not ready:
            self.reasons["no instance is ready"] += 1
            return _BAD_GATEWAY
        self._next += 1
        port = ready[self._next % len(ready)]
        try:
            head, body = await self._ask(port, request.decode().removesuffix("\r\n"), keep)
        except (OSError, EOFError) as error:
            self.reasons[type(error).__name__] += 1
            return _BAD_GATEWAY
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join(lines) + body

    async def _ask(self, port: int, request: str, keep: bool) -> tuple[bytes, bytes]:
        """One request on a kept or a new connection; the head of the answer and its body."""
        stream = self._kept(port) if keep else None
        reader, writer = stream or await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request.encode() + (b"\r\n" if keep else b"connection: close\r\n\r\n"))
            await writer.drain()
            if not (head := await _head(reader)):
                raise asyncio.IncompleteReadError(b"", None)
            lower = head.lower()
            size = int(lower.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            body = await reader.readexactly(size)
        except BaseException:
            writer.close()
            raise
        if keep and b"connection: close" not in lower:
            self._idle[port].append((time.monotonic(), (reader, writer)))
        else:
            writer.close()
        return head, body

    def _kept(self, port: int) -> Stream | None:
        while self._idle[port]:
            since, (reader, writer) = self._idle[port].pop()
            # Shorter than any server's own idle timeout (gunicorn's is 2 s), as load balancers must be set.
            if time.monotonic() - since < 1.0 and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


class Clients:
    """So many requests a second through a proxy, and what became of them."""

    def __init__(self, port: int, rate: int = 200, number: int = 20) -> None:
        self.answers: Counter[str] = Counter()
        self.began = 0.0
        self._port = port
        self._pause = number / rate
        self._number = number

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum(number for answer, number in self.answers.items() if answer != "200")

    async def run(self) -> None:
        """Send until cancelled."""
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(self._number):
                await asyncio.sleep(self._pause / self._number)
                group.create_task(self._client(keep=number % 2 == 0))

    async def _client(self, keep: bool) -> None:
        kept: list[Stream] = []
        due = time.monotonic()
        try:
            while True:
                try:
                    self.answers[await self._one(kept, keep)] += 1
                except (OSError, EOFError) as error:
                    self.answers[type(error).__name__] += 1
                    keep_open = False
                else:
                    keep_open = keep
                if kept and not keep_open:
                    kept.pop()[1].close()
                due += self._pause
                await asyncio.sleep(max(due - time.monotonic(), 0))
        finally:
            for _, writer in kept:
                writer.close()
            await asyncio.sleep(0.01)

    async def _one(self, kept: list[Stream], keep: bool) -> str:
        if not kept:
            kept.append(await asyncio.open_connection("127.0.0.1", self._port))
        reader, writer = kept[0]
        more = b"" if keep else b"connection: close\r\n"
        writer.write(b"GET /hello HTTP/1.1\r\nhost: x\r\n" + more + b"\r\n")
        if not (head := await _head(reader)):
            raise asyncio.IncompleteReadError(b"", None)
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0))
        return head.split()[1].decode()


class Background:
    """Coroutines in an event loop of their own, from entering the block to leaving it."""

    def __init__(self, *works: Callable[[], Awaitable[Any]]) -> None:
        self._works = works
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(10)

    def _run(self) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for work in self._works:
                    group.create_task(work())  # type: ignore[arg-type]

        self._main = self._loop.create_task(main())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

"""Where lines go when nobody reads, when several write, and when a process ends in each of the ways there are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.process import APPS, free_port, uvicorn, wait_for
from support.scripts import run

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.signals.logs.stdout_writer import BATCH_LINES, LIMIT, PAUSE, StdoutWriter

LATER = """
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import connectsoft_obs as obs

async def order(request):
    parts = ["a"]
    obs.bind(order_id="7", parts=parts)

    async def later():
        parts.append("b")
        obs.bind(order_id="8", late="yes")

    return PlainTextResponse("", background=BackgroundTask(later))

app = Starlette(routes=[Route("/order", order)])
app.add_middleware(obs.ObservabilityMiddleware, service="orders")
with TestClient(app) as client:
    for _ in range(3):
        assert client.get("/order").status_code == 200
"""


class Unread:
    """A service whose standard output is a pipe that is read only when we say so."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "uvicorn", "chatty_logging:app", "--app-dir", str(APPS), "--port", str(port)]
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(APPS)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        self.content = b""
        self._reader: threading.Thread | None = None

    def read(self) -> None:
        """Begin to read to the end."""
        stream = self.process.stdout
        assert stream is not None

        def drain() -> None:
            with stream:
                self.content = stream.read()

        self._reader = threading.Thread(target=drain)
        self._reader.start()

    def end(self) -> list[dict[str, Any]]:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self._reader is not None
        self._reader.join(10)
        return [json.loads(line) for line in self.content.split(b"\n")[:-1]]

    def __enter__(self) -> Unread:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self._reader is None and self.process.stdout is not None:
            self.process.stdout.close()


def dropped(page: str, reason: str) -> int:
    start = f'connectsoft_obs_dropped_total{{connectsoft_obs_signal="logs",connectsoft_obs_reason="{reason}"}} '
    return int(float(next((line.removeprefix(start) for line in page.splitlines() if line.startswith(start)), 0)))


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.full)])
def test_a_stalled_reader_slows_no_request_and_what_is_dropped_is_counted(seconds: float) -> None:
    with Unread() as service, httpx.Client() as client:
        wait_for(lambda: _answers(client, service.url), 15, "the service to answer")
        client.get(f"{service.url}/chatty?who=warm&lines=1")
        requests, slowest, until = 0, 0.0, time.monotonic() + seconds
        while time.monotonic() < until or requests < 25:
            began = time.monotonic()
            assert client.get(f"{service.url}/chatty?who=w{requests}&lines=500").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            requests += 1
        lost = dropped(client.get(f"{service.url}/metrics").text, "stdout_blocked")
        assert lost > 0, "4 MiB were not filled"
        # A request makes 500 lines, 200 KiB of them; on a busy machine that takes a while, but not seconds.
        assert slowest < 1.5
        service.read()
        lines = service.end()
    said = [line for line in lines if "who" in line]
    accessed = [line for line in lines if line.get("logger") == "connectsoft_obs.access"]
    assert len(said) + len(accessed) + lost == requests * 500 + 1 + requests + 1
    assert len({(line["who"], line["number"]) for line in said}) == len(said)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def test_a_shutdown_with_a_stalled_reader_ends_in_time() -> None:
    with Unread() as service, httpx.Client() as client:
        wait_for(lambda: _answers(client, service.url), 15, "the service to answer")
        for number in range(5):
            client.get(f"{service.url}/chatty?who=w{number}&lines=500")
        service.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert service.process.wait(25) is not None
        assert time.monotonic() - began < 15


def test_workers_of_one_pipe_never_tear_a_line() -> None:
    """Four processes write lines of 100 bytes to 30 KiB into a pipe that is always full."""
    code = """
import os, sys, connectsoft_obs as obs
telemetry = obs.configure(service="x")
children = []
for worker in range(4):
    if (child := os.fork()) == 0:
        if worker % 2:
            telemetry.serve()
        log = obs.get_logger()
        for number in range(150):
            size = [10, 500, 3900, 4200, 7000, 30000][number % 6]
            log.info("line", worker=worker, number=number, a="x" * min(size, 8000), b="y" * max(size - 8000, 0) * (size > 8000))
        telemetry.shutdown()
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    content = b""
    while chunk := os.read(process.stdout.fileno(), 3000):
        content += chunk
        time.sleep(0.0005)
    process.stdout.close()
    assert process.wait(20) == 0
    lines = [json.loads(line) for line in content.split(b"\n")[:-1]]
    assert sorted((line["worker"], line["number"]) for line in lines if "worker" in line) == [
        (w, n) for w in range(4) for n in range(150)
    ]


def test_a_line_above_the_atomic_size_waits_for_its_turn_behind_another_process() -> None:
    """Without turns, what a second worker writes lands in the middle of the first one's long line."""
    import fcntl

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # another worker, that holds the pipe and goes away after a while
        fcntl.lockf(writing, fcntl.LOCK_EX)
        os.write(writing, b"begin ")
        time.sleep(0.5)
        os.write(writing, b"end\n")
        os._exit(0)
    try:
        assert os.read(reading, 6) == b"begin "
        with os.fdopen(writing, "w") as stream:
            StdoutWriter(InternalTelemetry(), stream).write(b"ours\n", False)
        assert os.read(reading, 100) == b"end\nours\n"
    finally:
        os.waitpid(pid, 0)
        os.close(reading)


def test_a_pipe_in_non_blocking_mode_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    expected = b"".join(b"%06d %s\n" % (number, b"x" * 300) for number in range(2000))
    received = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 5000):
            received.extend(chunk)
            time.sleep(0.0002)

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(InternalTelemetry(), stream)
        for number, line in enumerate(expected.splitlines(keepends=True)):
            if number == 200:
                output.start()
            output.write(line, False)
        assert output.stop(20)
    thread.join()
    os.close(reading)
    assert bytes(received) == expected


def test_a_full_pipe_after_the_end_is_given_up_and_the_torn_line_stands_alone() -> None:
    reading, writing = os.pipe()
    counted: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: counted.append((*labels, number)), lambda *_: None)
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(internal_telemetry, stream)
        output.start()
        assert output.stop(1)
        began = time.monotonic()
        for _ in range(4):
            output.write(b"z" * 30000 + b"\n", False)
        assert time.monotonic() - began < 3
        assert sum(number for *_, number in counted) >= 1
        content = b""
        while len(content) < 60000:
            content += os.read(reading, 65536)
        output.start()
        output.write(b"after\n", True)
        assert output.stop(5)
        content += os.read(reading, 65536)
    os.close(reading)
    assert {line for line in content.split(b"\n")[:-1]} >= {b"z" * 30000, b"after"}


def test_a_broken_pipe_is_counted_and_nobody_notices() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    counted: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: counted.append((*labels, number)), lambda *_: None)
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(internal_telemetry, stream)
        output.write(b"one\n", False)
        output.start()
        output.write(b"two\n", False)
        assert output.flush(5)
    assert counted == [("logs", "stdout_failed", 1), ("logs", "stdout_failed", 1)]


def test_the_account_of_waiting_bytes_is_right_after_many_threads() -> None:
    with Path(os.devnull).open("w") as stream:
        output = StdoutWriter(InternalTelemetry(), stream)
        output.start()

        def write() -> None:
            for _ in range(5000):
                output.write(b"x" * 100, False)

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert output.flush(10)
        wait_for(lambda: output._size == 0, 5, "nothing to wait")
        assert LIMIT > 0


ENDS = {
    "return": "pass",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise ValueError('the end')",
    "an exception in a task": "import asyncio\nasync def main(): raise ValueError('the end')\nasyncio.run(main())",
    "a keyboard interrupt": "os.kill(os.getpid(), __import__('signal').SIGINT); time.sleep(5)",
}


@pytest.mark.parametrize("end", list(ENDS))
def test_no_line_is_lost_at_a_clean_end_or_an_exception(end: str) -> None:
    code = f"""
import os, sys, time, connectsoft_obs as obs
telemetry = obs.configure(service="x")
telemetry.serve()
log = obs.get_logger()
for number in range(2000):
    log.info("line", number=number)
{ENDS[end]}
"""
    ended = run(code)
    lines = ended.lines
    assert [line["number"] for line in lines if line["message"] == "line"] == list(range(2000))
    if "exception" in end:
        [last] = [line for line in lines if line["severity"] == "FATAL"]
        assert last["exception.stacktrace"].rstrip().endswith("ValueError: the end")
        assert (ended.code, ended.err) == (1, ""), "the traceback is in the stream, and nowhere else"


def test_an_exit_without_any_goodbye_loses_at_most_the_stated_pause() -> None:
    with uvicorn("chatty_logging:app") as service:
        service.ready()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{service.url}/leave?wait={PAUSE * 4}", timeout=10)
        assert service.process.wait(10) == 3
        wait_for(lambda: "long before the end" in service.said, 5, "the line of four pauses ago")


def test_a_hook_that_somebody_set_before_us_is_called_and_pythons_own_is_not() -> None:
    code = """
import sys, threading
sys.excepthook = lambda *args: print("theirs", args[0].__name__, file=sys.stderr)
threading.excepthook = lambda args: print("their thread", args.exc_type.__name__, file=sys.stderr)
import connectsoft_obs as obs
obs.configure(service="x")
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
raise KeyError("x")
"""
    ended = run(code)
    assert ended.err.split("\n") == ["their thread ZeroDivisionError", "theirs KeyError", ""]
    assert [line["exception.type"] for line in ended.lines] == ["ZeroDivisionError", "KeyError"]


def test_an_exception_that_cannot_be_written_is_printed_by_python() -> None:
    code = """
import os, sys, connectsoft_obs as obs
obs.configure(service="x").serve()
obs.get_logger().info("starts the thread")
reading, writing = os.pipe(); os.dup2(writing, 1)
os.set_blocking(writing, False)
try:
    while True: os.write(writing, b"x" * 4096)
except BlockingIOError: os.set_blocking(writing, True)
raise ValueError("nobody reads")
"""
    ended = run(code, timeout=30)
    assert "ValueError: nobody reads" in ended.err


def test_lines_put_into_words_later_keep_their_order_whoever_does_it() -> None:
    reading, writing = os.pipe()
    received = bytearray()
    reader = threading.Thread(target=lambda: _read_all(reading, received))
    reader.start()
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(InternalTelemetry(), stream)
        output.start()

        def made(line: bytes) -> bytes:
            time.sleep(0)  # others have their turn
            return line

        def write(who: int) -> None:
            for number in range(4000):
                line = b"%d %d\n" % (who, number)
                output.write(line if number % 3 else partial(made, line), not number % 50)

        threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert output.stop(20)
    reader.join()
    said: dict[bytes, list[int]] = {}
    for line in bytes(received).splitlines():
        who, number = line.split()
        said.setdefault(who, []).append(int(number))
    assert said == {b"%d" % who: [*range(4000)] for who in range(4)}


def test_a_line_that_cannot_be_put_into_words_costs_no_other() -> None:
    errors: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: errors.append((*labels, number)), lambda *_: None)

    def fails() -> bytes:
        raise LookupError("ours")

    def write(output: StdoutWriter) -> None:
        output.write(b"one\n", False)
        output.write(fails, False)
        output.write(b"two\n", False)

    assert _written(write, internal_telemetry) == b"one\ntwo\n"
    assert errors == [("logs", 1)]


def test_a_signal_while_lines_are_put_into_words_costs_none_of_them() -> None:
    interrupts = [KeyboardInterrupt]

    def line() -> bytes:
        if interrupts:
            raise interrupts.pop()
        return b"interrupted\n"

    def write(output: StdoutWriter) -> None:
        output.write(b"before\n", False)
        output.write(line, False)
        for number in range(2, BATCH_LINES - 1):
            output.write(b"%d\n" % number, False)
        with pytest.raises(KeyboardInterrupt):
            output.write(b"last\n", False)
        output.write(b"after\n", False)

    said = _written(write, InternalTelemetry()).split()
    assert said == [
        b"before",
        b"interrupted",
        *(b"%d" % number for number in range(2, BATCH_LINES - 1)),
        b"last",
        b"after",
    ]


def test_a_flush_waits_for_lines_that_another_thread_puts_into_words() -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> bytes:
        asked.set()
        assert go.wait(10)
        return b"slow\n"

    def write(output: StdoutWriter) -> None:
        output.write(b"first\n", True)
        assert output.flush(5)

        def write_all() -> None:
            for _ in range(BATCH_LINES):
                output.write(slow, False)

        thread = threading.Thread(target=write_all)
        thread.start()
        assert asked.wait(10)
        assert not output.flush(0.2)
        go.set()
        thread.join()
        assert output.flush(10)

    assert _written(write, InternalTelemetry()) == b"first\n" + b"slow\n" * BATCH_LINES


def test_a_line_says_what_was_so_when_the_request_ended() -> None:
    done = run(LATER)
    assert done.code == 0, done.err
    accessed = [line for line in done.lines if line.get("logger") == "connectsoft_obs.access"]
    assert [(line["order_id"], line["parts"], "late" in line) for line in accessed] == [("7", ["a"], False)] * 3


def _written(write: Callable[[StdoutWriter], object], internal_telemetry: InternalTelemetry) -> bytes:
    """What comes out of a pipe after `write` has written, once a thread does it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(internal_telemetry, stream)
        output.start()
        write(output)
        assert output.stop(10)
    received = bytearray()
    _read_all(reading, received)
    return bytes(received)


def _read_all(reading: int, received: bytearray) -> None:
    while chunk := os.read(reading, 65536):
        received.extend(chunk)
    os.close(reading)

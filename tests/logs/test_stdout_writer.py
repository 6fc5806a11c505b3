"""Writing to standard output: slow readers, several writers, and every way in which a process can exit."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
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
from support.scripts import run_script

from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.signals.logs.stdout_writer import BATCH_LINES, MAX_QUEUED_BYTES, WRITE_INTERVAL, StdoutWriter

BACKGROUND_TASK_SCRIPT = """
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import connectsoft_obs as obs

async def order(request):
    parts = ["a"]
    obs.bind(order_id="7", parts=parts)

    async def bind_later():
        parts.append("b")
        obs.bind(order_id="8", late="yes")

    return PlainTextResponse("", background=BackgroundTask(bind_later))

app = Starlette(routes=[Route("/order", order)])
app.add_middleware(obs.ObservabilityMiddleware, service="orders")
with TestClient(app) as client:
    for _ in range(3):
        assert client.get("/order").status_code == 200
"""


class UnreadService:
    """A service whose standard output is a pipe that is not read until `read()` is called."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "uvicorn", "chatty_logging:app", "--app-dir", str(APPS), "--port", str(port)]
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(APPS)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        self.content = b""
        self._reader: threading.Thread | None = None

    def read(self) -> None:
        """Start to read until the end of the output."""
        stream = self.process.stdout
        assert stream is not None

        def drain() -> None:
            with stream:
                self.content = stream.read()

        self._reader = threading.Thread(target=drain)
        self._reader.start()

    def stop(self) -> list[dict[str, Any]]:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self._reader is not None
        self._reader.join(10)
        return [json.loads(line) for line in self.content.split(b"\n")[:-1]]

    def __enter__(self) -> UnreadService:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self._reader is None and self.process.stdout is not None:
            self.process.stdout.close()


def count_dropped(page: str, reason: str) -> int:
    prefix = f'connectsoft_obs_dropped_total{{connectsoft_obs_signal="logs",connectsoft_obs_reason="{reason}"}} '
    return int(float(next((line.removeprefix(prefix) for line in page.splitlines() if line.startswith(prefix)), 0)))


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.full)])
def test_stalled_reader_does_not_slow_requests(seconds: float) -> None:
    with UnreadService() as service, httpx.Client() as client:
        wait_for(lambda: _is_live(client, service.url), 15, "the service to answer")
        client.get(f"{service.url}/chatty?client=warm&lines=1")
        requests, slowest, deadline = 0, 0.0, time.monotonic() + seconds
        while time.monotonic() < deadline or requests < 25:
            start = time.monotonic()
            assert client.get(f"{service.url}/chatty?client=w{requests}&lines=500").status_code == 200
            slowest = max(slowest, time.monotonic() - start)
            requests += 1
        lost = count_dropped(client.get(f"{service.url}/metrics").text, "stdout_blocked")
        assert lost > 0, "4 MiB were not filled"
        # A request writes 500 lines of 200 KiB in total; on a loaded machine that takes a while, but not seconds.
        assert slowest < 1.5
        service.read()
        lines = service.stop()
    application_lines = [line for line in lines if "client" in line]
    access_lines = [line for line in lines if line.get("logger") == "connectsoft_obs.access"]
    assert len(application_lines) + len(access_lines) + lost == requests * 500 + 1 + requests + 1
    assert len({(line["client"], line["number"]) for line in application_lines}) == len(application_lines)


def _is_live(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def test_shutdown_with_a_stalled_reader_is_bounded() -> None:
    with UnreadService() as service, httpx.Client() as client:
        wait_for(lambda: _is_live(client, service.url), 15, "the service to answer")
        for number in range(5):
            client.get(f"{service.url}/chatty?client=w{number}&lines=500")
        service.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert service.process.wait(25) is not None
        assert time.monotonic() - start < 15


def test_workers_with_a_common_pipe_write_complete_lines() -> None:
    """Four processes write lines of 100 bytes to 30 KiB to a pipe that is always full."""
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


def test_long_line_waits_for_the_lock_of_another_process() -> None:
    """Without the lock, the output of a second worker is written into the middle of a long line of the first."""
    import fcntl

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:  # another worker, which holds the lock for a while
        fcntl.lockf(writing, fcntl.LOCK_EX)
        os.write(writing, b"begin ")
        time.sleep(0.5)
        os.write(writing, b"end\n")
        os._exit(0)
    try:
        assert os.read(reading, 6) == b"begin "
        with os.fdopen(writing, "w") as stream:
            StdoutWriter(InternalTelemetry(), stream).write(b"line\n", False)
        assert os.read(reading, 100) == b"end\nline\n"
    finally:
        os.waitpid(pid, 0)
        os.close(reading)


def test_non_blocking_pipe_loses_no_lines() -> None:
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


def test_write_after_stop_times_out_and_ends_the_partial_line() -> None:
    reading, writing = os.pipe()
    drops: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: drops.append((*labels, number)), lambda *_: None)
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(internal_telemetry, stream)
        output.start()
        assert output.stop(1)
        start = time.monotonic()
        for _ in range(4):
            output.write(b"z" * 30000 + b"\n", False)
        assert time.monotonic() - start < 3
        assert sum(number for *_, number in drops) >= 1
        content = b""
        while len(content) < 60000:
            content += os.read(reading, 65536)
        output.start()
        output.write(b"after\n", True)
        assert output.stop(5)
        content += os.read(reading, 65536)
    os.close(reading)
    assert {line for line in content.split(b"\n")[:-1]} >= {b"z" * 30000, b"after"}


def test_lines_are_read_or_counted_as_dropped_with_a_stalled_reader() -> None:
    reading, writing = os.pipe()
    drops: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: drops.append((*labels, number)), lambda *_: None)
    content = bytearray()

    def read_all() -> None:
        while part := os.read(reading, 1 << 20):
            content.extend(part)

    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(internal_telemetry, stream)
        output.start()
        for number in range(3 * BATCH_LINES):  # the limit is in the middle of a batch
            output.write(b"%d" % number + b"z" * (MAX_QUEUED_BYTES // 20) + b"\n", False)
        reader = threading.Thread(target=read_all)
        reader.start()
        assert output.stop(20)
    reader.join()
    os.close(reading)
    dropped = sum(number for *_, number in drops)
    assert {reason for _, reason, _ in drops} == {"stdout_blocked"}
    assert 0 < dropped < 3 * BATCH_LINES
    assert content.count(b"\n") + dropped == 3 * BATCH_LINES


def test_accepted_lines_fit_into_the_limit_of_the_queue() -> None:
    with Path(os.devnull).open("w") as stream:
        output = StdoutWriter(InternalTelemetry(), stream)
        assert output._drop_excess([b"aaaaaa", b"bbbbbb", b"c"], 12) == ([b"aaaaaa", b"bbbbbb"], 12)
        assert output._drop_excess([b"aaaaaa", b"bbbbbb", b"c"], 11) == ([b"aaaaaa", b"c"], 7)


def test_lines_before_a_write_timeout_are_not_counted_as_dropped() -> None:
    reading, writing = os.pipe()
    drops: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: drops.append((*labels, number)), lambda *_: None)
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(internal_telemetry, stream)
        output._write_now([b"z" * 30000 + b"\n"] * 5, 0.1)
        content = os.read(reading, 1 << 20)
    os.close(reading)
    assert content.count(b"z" * 30000 + b"\n") == 2
    assert drops == [("logs", "stdout_blocked", 3)]


def test_broken_pipe_is_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    drops: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: drops.append((*labels, number)), lambda *_: None)
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(internal_telemetry, stream)
        output.write(b"one\n", False)
        output.start()
        for _ in range(BATCH_LINES):
            output.write(b"two\n", False)
        assert output.flush(5)
    assert {reason for _, reason, _ in drops} == {"stdout_failed"}
    assert sum(number for *_, number in drops) == 1 + BATCH_LINES


def test_number_of_queued_bytes_is_exact_with_many_threads() -> None:
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
        wait_for(lambda: output._queued_bytes == 0, 5, "an empty queue")
        assert MAX_QUEUED_BYTES > 0


EXITS = {
    "return": "pass",
    "sys.exit": "sys.exit(3)",
    "an exception": "raise ValueError('the end')",
    "an exception in a task": "import asyncio\nasync def main(): raise ValueError('the end')\nasyncio.run(main())",
    "a keyboard interrupt": "os.kill(os.getpid(), __import__('signal').SIGINT); time.sleep(5)",
}


@pytest.mark.parametrize("exit_name", list(EXITS))
def test_exit_loses_no_lines(exit_name: str) -> None:
    code = f"""
import os, sys, time, connectsoft_obs as obs
telemetry = obs.configure(service="x")
telemetry.serve()
log = obs.get_logger()
for number in range(2000):
    log.info("line", number=number)
{EXITS[exit_name]}
"""
    result = run_script(code)
    lines = result.json_lines
    assert [line["number"] for line in lines if line["message"] == "line"] == list(range(2000))
    if "exception" in exit_name:
        [last] = [line for line in lines if line["severity"] == "FATAL"]
        assert last["exception.stacktrace"].rstrip().endswith("ValueError: the end")
        assert (result.exit_code, result.stderr) == (1, ""), "the traceback is in the log only"


def test_immediate_exit_loses_at_most_the_write_interval() -> None:
    with uvicorn("chatty_logging:app") as service:
        service.wait_until_ready()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{service.url}/exit?wait={WRITE_INTERVAL * 4}", timeout=10)
        assert service.process.wait(10) == 3
        wait_for(lambda: "long before the exit" in service.output, 5, "the line of four intervals ago")


def test_previous_excepthook_is_called_unless_it_is_the_default() -> None:
    code = """
import sys, threading
sys.excepthook = lambda *args: print("process hook", args[0].__name__, file=sys.stderr)
threading.excepthook = lambda args: print("thread hook", args.exc_type.__name__, file=sys.stderr)
import connectsoft_obs as obs
obs.configure(service="x")
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
raise KeyError("x")
"""
    result = run_script(code)
    assert result.stderr.split("\n") == ["thread hook ZeroDivisionError", "process hook KeyError", ""]
    assert [line["exception.type"] for line in result.json_lines] == ["ZeroDivisionError", "KeyError"]


def test_uncaught_exception_is_printed_if_it_cannot_be_logged() -> None:
    code = """
import os, sys, connectsoft_obs as obs
obs.configure(service="x").serve()
obs.get_logger().info("starts the thread")
reading, writing = os.pipe(); os.dup2(writing, 1)
os.set_blocking(writing, False)
try:
    while True: os.write(writing, b"x" * 4096)
except BlockingIOError: os.set_blocking(writing, True)
raise ValueError("the pipe is not read")
"""
    result = run_script(code, timeout=30)
    assert "ValueError: the pipe is not read" in result.stderr


def test_deferred_lines_keep_their_order() -> None:
    reading, writing = os.pipe()
    received = bytearray()
    reader = threading.Thread(target=lambda: _read_all(reading, received))
    reader.start()
    with os.fdopen(writing, "w") as stream:
        output = StdoutWriter(InternalTelemetry(), stream)
        output.start()

        def render(line: bytes) -> bytes:
            time.sleep(0)  # switches to another thread
            return line

        def write(worker: int) -> None:
            for number in range(4000):
                line = b"%d %d\n" % (worker, number)
                output.write(line if number % 3 else partial(render, line), not number % 50)

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert output.stop(20)
    reader.join()
    numbers_by_worker: dict[bytes, list[int]] = {}
    for line in bytes(received).splitlines():
        worker, number = line.split()
        numbers_by_worker.setdefault(worker, []).append(int(number))
    assert numbers_by_worker == {b"%d" % worker: [*range(4000)] for worker in range(4)}


def test_line_that_cannot_be_rendered_does_not_affect_others() -> None:
    errors: list[tuple[Any, ...]] = []
    internal_telemetry = InternalTelemetry()
    internal_telemetry.attach(lambda metric, labels, number: errors.append((*labels, number)), lambda *_: None)

    def fails() -> bytes:
        raise LookupError("cannot render")

    def write(output: StdoutWriter) -> None:
        output.write(b"one\n", False)
        output.write(fails, False)
        output.write(b"two\n", False)

    assert _capture_output(write, internal_telemetry) == b"one\ntwo\n"
    assert errors == [("logs", 1)]


def test_signal_while_rendering_loses_no_lines() -> None:
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

    lines = _capture_output(write, InternalTelemetry()).split()
    assert lines == [
        b"before",
        b"interrupted",
        *(b"%d" % number for number in range(2, BATCH_LINES - 1)),
        b"last",
        b"after",
    ]


def test_flush_waits_for_lines_that_another_thread_renders() -> None:
    started, can_continue = threading.Event(), threading.Event()

    def slow() -> bytes:
        started.set()
        assert can_continue.wait(10)
        return b"slow\n"

    def write(output: StdoutWriter) -> None:
        output.write(b"first\n", True)
        assert output.flush(5)

        def write_all() -> None:
            for _ in range(BATCH_LINES):
                output.write(slow, False)

        thread = threading.Thread(target=write_all)
        thread.start()
        assert started.wait(10)
        assert not output.flush(0.2)
        can_continue.set()
        thread.join()
        assert output.flush(10)

    assert _capture_output(write, InternalTelemetry()) == b"first\n" + b"slow\n" * BATCH_LINES


def test_access_line_has_the_state_at_the_end_of_the_request() -> None:
    result = run_script(BACKGROUND_TASK_SCRIPT)
    assert result.exit_code == 0, result.stderr
    access_lines = [line for line in result.json_lines if line.get("logger") == "connectsoft_obs.access"]
    assert [(line["order_id"], line["parts"], "late" in line) for line in access_lines] == [("7", ["a"], False)] * 3


def _capture_output(write: Callable[[StdoutWriter], object], internal_telemetry: InternalTelemetry) -> bytes:
    """The output of a pipe after `write` has written to it through the writing thread."""
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


def test_pipe_without_reader_does_not_delay_lines() -> None:
    """As `program | head -1`: the reader leaves with bytes unread, and the program has to end soon and normally."""
    script = (
        "import os, sys, time, connectsoft_obs as obs\n"
        "t = obs.configure(service='s')\n"
        "log = obs.get_logger('x')\n"
        "log.info('first')\n"
        "os.read(0, 1)\n"
        "start = time.monotonic()\n"
        "for n in range(1000): log.info('line', n=n, stack='x' * (9000 if n % 10 == 0 else 10))\n"
        "took = time.monotonic() - start\n"
        "sys.stderr.write(f'{took}')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    stdout = process.stdout
    wait_for(lambda: bool(select.select([stdout], [], [], 0)[0]), 20, "the first line")
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(20) == 0, errors
    assert float(errors) < 1.5, "6.4 ms a line were 6.4 s"


class FramedStream:
    """A stream as Dramatiq's worker processes have it: its descriptor is a pipe with frames of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.text = ""

    def fileno(self) -> int:
        return self._fd

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_stream_that_frames_its_descriptor_gets_lines_by_write(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    try:
        stream = FramedStream(writer)
        monkeypatch.setattr(sys, "stdout", stream)
        output = StdoutWriter(InternalTelemetry())
        output.start()
        output.write(b"line\n", False)
        assert stream.text == "line\n"
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("uses_thread", [False, True])
def test_replaced_standard_output_gets_the_lines(uses_thread: bool, tmp_path: Path) -> None:
    original = sys.stdout
    with (tmp_path / "stdout").open("w") as file:
        sys.stdout = file
        try:
            output = StdoutWriter(InternalTelemetry())
            if uses_thread:
                output.start()
            output.write(b"before\n", False)
            with contextlib.redirect_stdout(io.StringIO()) as replaced:
                output.write(b"inside\n", False)
            output.write(b"after\n", False)
            assert output.flush(5)
        finally:
            sys.stdout = original
    assert replaced.getvalue() == "inside\n"
    assert (tmp_path / "stdout").read_text() == "before\nafter\n"


def test_stream_that_is_closed_is_replaced_by_the_original() -> None:
    script = (
        "import io, sys, connectsoft_obs as obs\n"
        "sys.stdout = io.StringIO()\n"
        "obs.configure(service='s')\n"
        "sys.stdout.close()\n"
        "obs.get_logger('x').info('kept')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["message"] == "kept"


def test_stream_that_logs_what_is_written_to_it_does_not_recurse() -> None:
    """Celery replaces standard output by such an object."""
    script = (
        "import logging, sys, connectsoft_obs as obs\n"
        "class Proxy:\n"
        "    closed = False\n"
        "    def write(self, text): logging.getLogger('stdout').warning(text)\n"
        "    def flush(self): pass\n"
        "obs.configure(service='s')\n"
        "sys.stdout = Proxy()\n"
        "for n in range(3): obs.get_logger('x').info('kept', n=n)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert [json.loads(line)["n"] for line in done.stdout.splitlines()] == [0, 1, 2]

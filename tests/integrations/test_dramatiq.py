"""Dramatiq with a real Redis: its worker processes replace standard output by a framed pipe to the main process."""

from __future__ import annotations

import json
import multiprocessing
import sys
import uuid
from collections import Counter
from typing import Any

from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.compat import StreamablePipe
from support.brokers import Broker
from support.process import Service, free_port, wait_for

MESSAGES, LINES = 3, 2000


def test_lines_of_dramatiq_worker_processes_arrive_in_full(redis: Broker) -> None:
    namespace = f"dramatiq-{uuid.uuid4().hex[:8]}"
    broker = RedisBroker(url=redis.url, namespace=namespace)  # type: ignore[no-untyped-call]
    broker.declare_queue("default")
    for _ in range(MESSAGES):
        broker.enqueue(Message("default", "count_lines", (LINES,), {}, {}))
    command = [sys.executable, "-m", "dramatiq", "dramatiq_actors", "--processes", "2", "--threads", "2"]
    with Service(command, free_port(), {"BROKER": redis.url, "QUEUE": namespace}) as service:
        wait_for(lambda: service.output.count("run count-lines success") == MESSAGES, 60, "all messages are processed")
        service.stop()
    # A line of another thread or process can come between the two frames of a print; see the test below.
    texts = [text.removeprefix("printed") for text in service.output.splitlines()]
    lines = [json.loads(text) for text in texts if text.startswith("{")]
    numbers = Counter(line["index"] for line in lines if line["message"] == "line")
    assert numbers == Counter(dict.fromkeys(range(LINES), MESSAGES))
    messages = Counter(line["message"] for line in lines)
    assert messages["from the standard library"] == messages["run count-lines success"] == MESSAGES
    assert service.output.count("printed") == MESSAGES


def test_dramatiq_frames_the_text_and_the_newline_of_a_print_separately() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    pipe: Any = StreamablePipe(sender)  # type: ignore[no-untyped-call]
    print("printed", file=pipe, flush=True)
    pipe.write("line\n")
    assert [receiver.recv_bytes() for _ in range(3)] == [b"printed", b"\n", b"line\n"]

"""Worker processes that stop in different ways; the first argument names the function to run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time

import connectsoft_obs as obs
from connectsoft_obs.work import Worker


@obs.job("run")
def run(seconds: float) -> None:
    time.sleep(seconds)


@obs.job("outer")
def outer(worker: Worker) -> None:
    """Runs until three seconds after SIGTERM, with inner runs."""
    while not worker.draining:
        run(0.05)
    for _ in range(60):
        run(0.05)


@obs.job("async-run")
async def async_run() -> None:
    await asyncio.sleep(0.05)


def start_thread(seconds: float, count: int) -> None:
    """Start runs in a daemon thread, which does not keep the process alive."""

    def start_runs() -> None:
        for _ in range(count):
            run(seconds)

    threading.Thread(target=start_runs, daemon=True).start()


def batch(worker: Worker) -> None:
    """Ends after a batch of short runs."""
    while not worker.draining:
        for _ in range(5):
            run(0.1)


def nested(worker: Worker) -> None:
    outer(worker)


def active_thread(worker: Worker) -> None:
    """Leaves the block while a run of another thread is active."""
    start_thread(3, 1)
    while not worker.draining:
        time.sleep(0.02)


def stuck_thread(worker: Worker) -> None:
    """Leaves the block while a run of another thread does not end."""
    start_thread(120, 1)
    while not worker.draining:
        time.sleep(0.02)


def thread_loop(worker: Worker) -> None:
    """Never checks `draining`; another thread starts runs while the main thread blocks."""
    start_thread(0.2, 10_000)
    time.sleep(120)


def slow_handler(worker: Worker) -> None:
    """Ends four seconds after the application's signal handler was called."""
    while not handler_called.is_set():
        time.sleep(0.05)
    time.sleep(4)


def step() -> None:
    print("step begins", flush=True)
    time.sleep(0.5)
    print("step ends", flush=True)


def steps(worker: Worker) -> None:
    """Never checks `draining`; each step of the event loop takes half a second."""

    async def main() -> None:
        while True:
            step()
            await asyncio.sleep(0)

    asyncio.run(main())


def failing(worker: Worker) -> None:
    """Fails while it is interrupted."""
    try:
        time.sleep(120)
    finally:
        raise ValueError("cleanup failed")


def loop_check(worker: Worker) -> None:
    """An async check that belongs to the event loop of the application, which starts after the worker."""
    loops: list[asyncio.AbstractEventLoop] = []

    @obs.readiness_check("loop", interval=0.1)
    async def check() -> None:
        if not loops or asyncio.get_running_loop() is not loops[0]:
            raise RuntimeError("not the loop of the application")

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        while not worker.draining:
            await async_run()

    asyncio.run(main())


handler_called = threading.Event()

if __name__ == "__main__":
    mode = sys.argv[1]
    if mode == "slow_handler":
        signal.signal(signal.SIGTERM, lambda *_: handler_called.set())
    if mode == "early_signal":
        obs.configure(service="worker").on_serve(lambda: os.kill(os.getpid(), signal.SIGTERM))
        with obs.worker(service="worker") as early_worker:
            print("draining" if early_worker.draining else "not draining", flush=True)
    else:
        with obs.worker(service="worker") as running_worker:
            globals()[mode](running_worker)
    print("block left", flush=True)
    if mode in ("batch", "early_signal"):
        time.sleep(3)  # longer than the block waits in a program without runs
        print("after", flush=True)

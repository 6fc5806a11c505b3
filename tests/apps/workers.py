"""A worker process; its first argument names the function to run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import connectsoft_obs as obs
from connectsoft_obs.work import Worker


@obs.job("long")
def long(seconds: float) -> None:
    time.sleep(seconds)


@obs.job("async-long")
async def async_long(seconds: float) -> None:
    await asyncio.sleep(seconds)


def blocked(worker: Worker) -> None:
    """Never checks `draining`; blocks in a system call."""
    time.sleep(120)


def busy(worker: Worker) -> None:
    """Never checks `draining`; runs jobs in an endless loop."""
    while True:
        long(0.2)


def cooperative(worker: Worker) -> None:
    while not worker.draining:
        long(0.1)


def once(worker: Worker) -> None:
    """One run of three seconds, then idle."""
    long(3)
    time.sleep(120)


def endless(worker: Worker) -> None:
    long(120)


def stuck_thread(worker: Worker) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(long, 120).result()


def loop(worker: Worker) -> None:
    async def main() -> None:
        while True:
            await async_long(0.2)

    asyncio.run(main())


def loop_once(worker: Worker) -> None:
    async def main() -> None:
        await async_long(3)
        await asyncio.Event().wait()

    asyncio.run(main())


def loop_inside(worker: Worker) -> None:
    """Runs the worker inside the event loop, for checks that belong to that loop; see the end of this file."""


def on_uvloop(worker: Worker) -> None:
    import uvloop

    async def main() -> None:
        await async_long(1)
        await asyncio.Event().wait()

    uvloop.run(main())


def on_trio(worker: Worker) -> None:
    import trio

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    trio.run(main)


def silent(worker: Worker) -> None:
    """Declares a heartbeat and never sends it."""
    obs.heartbeat("poll-loop", every=0.5)
    time.sleep(120)


def forks(worker: Worker) -> None:
    """Forks a child, which inherits neither the listening port nor the signal handlers."""
    child = os.fork()
    if not child:
        time.sleep(120)
        os._exit(3)
    print(f"child {child}", flush=True)
    print(f"child exit code {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}", flush=True)
    while not worker.draining:
        time.sleep(0.05)


def own_handler(worker: Worker) -> None:
    """Stops through a signal handler that the application has installed before the package's."""
    while not stopped.is_set():
        time.sleep(0.05)


stopped = threading.Event()
application_loop: asyncio.AbstractEventLoop

if __name__ == "__main__":
    mode = sys.argv[1]
    if mode == "own_handler":
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    if mode == "loop_inside":

        @obs.readiness_check("loop")
        async def runs_on_application_loop() -> None:
            if asyncio.get_running_loop() is not application_loop:
                message = "not the application's loop"
                raise RuntimeError(message)

        async def main() -> None:
            global application_loop
            application_loop = asyncio.get_running_loop()
            async with obs.worker(service="audit-ingest") as worker:
                while not worker.draining:
                    await async_long(0.05)

        asyncio.run(main())
    else:
        with obs.worker(service="audit-ingest") as worker:
            globals()[mode](worker)
    print("after", flush=True)

"""A worker process as its documentation would have it; what it does is the first argument."""

from __future__ import annotations

import asyncio
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
    """Never looks, waits in a system call."""
    time.sleep(120)


def busy(worker: Worker) -> None:
    """Never looks, works without end."""
    while True:
        long(0.2)


def cooperative(worker: Worker) -> None:
    while not worker.draining:
        long(0.1)


def once(worker: Worker) -> None:
    """One run of three seconds, then nothing."""
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
    """The worker inside the loop, for checks that belong to it."""


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
    """A loop that promised to be alive and is not."""
    obs.heartbeat("poll-loop", every=0.5)
    time.sleep(120)


def forks(worker: Worker) -> None:
    """A child inherits neither our port nor our handler of signals."""
    import os

    child = os.fork()
    if not child:
        time.sleep(120)
        os._exit(3)
    print(f"child {child}", flush=True)
    os.waitpid(child, 0)
    while not worker.draining:
        time.sleep(0.05)


def own_handler(worker: Worker) -> None:
    """Somebody's own way to stop, set before ours."""
    while not stopped.is_set():
        time.sleep(0.05)


stopped = threading.Event()
the_loop: asyncio.AbstractEventLoop

if __name__ == "__main__":
    what = sys.argv[1]
    if what == "own_handler":
        import signal

        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    if what == "loop_inside":

        @obs.readiness_check("loop")
        async def same_loop() -> None:
            if asyncio.get_running_loop() is not the_loop:
                message = "not the application's loop"
                raise RuntimeError(message)

        async def main() -> None:
            global the_loop
            the_loop = asyncio.get_running_loop()
            async with obs.worker(service="audit-ingest") as worker:
                while not worker.draining:
                    await async_long(0.05)

        asyncio.run(main())
    else:
        with obs.worker(service="audit-ingest") as worker:
            globals()[what](worker)
    print("after", flush=True)

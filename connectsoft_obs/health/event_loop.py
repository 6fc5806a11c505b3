"""Where async checks run: on the application's event loop, or on one of our own where there is none.

The application's loop is the one its pools and clients belong to. Workers without a loop, and applications on trio,
have none for asyncio; there a thread of ours runs one, on which a check that needs trio fails with trio's own words.
"""

from __future__ import annotations

import asyncio

from connectsoft_obs.process import threads


class LoopRunner:
    """Knows the application's loop, and runs another one when needed."""

    def __init__(self) -> None:
        self.application: asyncio.AbstractEventLoop | None = None
        self._own: asyncio.AbstractEventLoop | None = None

    def adopt(self) -> bool:
        """Use the running loop of the caller from here on; True when there is one, and none that still runs before it."""
        if self.application is not None and self.application.is_running():
            return False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self.application = loop
        return True

    def current(self) -> asyncio.AbstractEventLoop:
        """The application's loop while it lives, else our own."""
        loop = self.application
        return loop if loop is not None and not loop.is_closed() else self.own()

    def own(self) -> asyncio.AbstractEventLoop:
        """Ours, which lasts.

        Raises:
            RuntimeError: there can be no thread for it now.
        """
        if self._own is None:
            loop = asyncio.new_event_loop()
            if threads.start_thread("obs-health-loop", _run, loop) is None:
                loop.close()
                raise RuntimeError("there is no thread for the event loop of checks")
            self._own = loop
        return self._own

    def stop(self) -> None:
        """End our own loop; leave the application's."""
        own, self._own, self.application = self._own, None, None
        if own is not None:
            own.call_soon_threadsafe(own.stop)

    def after_fork_in_child(self) -> None:
        """In a forked child: no loop of the parent's runs here."""
        self.application = self._own = None


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

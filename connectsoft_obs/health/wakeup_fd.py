"""Standing before an event loop's wakeup descriptor, to keep back the news of one signal.

A server that uses `loop.add_signal_handler` (granian, gunicorn's own worker, hypercorn without workers) is told of a
signal by a byte that the interpreter writes to the loop's descriptor (`signal.set_wakeup_fd`); replacing the handler
alone would not put it off. So ours is put before it and passes everything on, but the byte that has to wait.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress

AGAIN = 0.5
"""Seconds between two looks at whether ours is still the descriptor."""


class WakeupFdProxy:
    """Stands before one loop. Every method belongs on the main thread, which runs the loop.

    Args:
        loop: the loop.
        signum: the signal whose byte is kept back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, signum: int) -> None:
        self._loop = loop
        self._signum = signum
        self._behind = -1
        self._theirs, self._ours = socket.socketpair()
        for end in (self._theirs, self._ours):
            end.setblocking(False)
        loop.add_reader(self._theirs, self._pass)
        self._left = False
        self._stay()

    def install(self) -> None:
        """Stand there, also after the loop put its own descriptor back, as uvloop does each time it is run."""
        with suppress(ValueError, OSError):
            before = signal.set_wakeup_fd(self._ours.fileno(), warn_on_full_buffer=False)
            if before != self._ours.fileno():
                self._behind = before

    def _stay(self) -> None:
        if not self._left and not self._loop.is_closed():
            self.install()
            self._loop.call_later(AGAIN, self._stay)

    def leave(self) -> None:
        """Put the loop's descriptor back."""
        self._left = True
        with suppress(ValueError, OSError):
            now = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(self._behind if now == self._ours.fileno() else now)
        with suppress(Exception):  # a loop that is closed has no readers
            self._loop.remove_reader(self._theirs)
        self._theirs.close()
        self._ours.close()

    def _pass(self) -> None:
        with suppress(BlockingIOError, OSError):
            content = bytes(number for number in self._theirs.recv(4096) if number != self._signum)
            if content and self._behind != -1:
                os.write(self._behind, content)

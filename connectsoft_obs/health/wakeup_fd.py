"""Proxies `signal.set_wakeup_fd` to delay delivery of one signal to the event loop.

A server that uses `loop.add_signal_handler` (granian, gunicorn's own worker, hypercorn without workers) receives a
signal as a byte that the interpreter writes to the loop's wakeup descriptor; replacing the signal handler would not
delay it. The proxy replaces that descriptor and forwards all bytes except those of the delayed signal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress

REINSTALL_INTERVAL = 0.5
"""Seconds between two tests whether the proxy is still the wakeup descriptor."""


class WakeupFdProxy:
    """Replaces the wakeup descriptor of one event loop. All methods must be called on the main thread, which runs it.

    Args:
        loop: the event loop.
        signum: the signal whose bytes are not forwarded.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, signum: int) -> None:
        self._loop = loop
        self._signum = signum
        self._loop_fd = -1
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        loop.add_reader(self._reader, self._forward)
        self._removed = False
        self._install_periodically()

    def install(self) -> None:
        """Install the proxy, also after the loop has reset its own descriptor, as uvloop does each time it is run."""
        with suppress(ValueError, OSError):
            previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            if previous_fd != self._writer.fileno():
                self._loop_fd = previous_fd

    def remove(self) -> None:
        """Restore the loop's descriptor."""
        self._removed = True
        with suppress(ValueError, OSError):
            current_fd = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(self._loop_fd if current_fd == self._writer.fileno() else current_fd)
        with suppress(Exception):  # a closed loop has no readers
            self._loop.remove_reader(self._reader)
        self._reader.close()
        self._writer.close()

    def _install_periodically(self) -> None:
        if not self._removed and not self._loop.is_closed():
            self.install()
            self._loop.call_later(REINSTALL_INTERVAL, self._install_periodically)

    def _forward(self) -> None:
        with suppress(BlockingIOError, OSError):
            content = bytes(number for number in self._reader.recv(4096) if number != self._signum)
            if content and self._loop_fd != -1:
                os.write(self._loop_fd, content)

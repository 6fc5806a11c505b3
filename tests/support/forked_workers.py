"""Forks worker processes from the test process, without a server."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


class ForkedProcess:
    """A forked process that runs a function.

    Args:
        function: what the process runs.
        keep_alive: keep the process running afterwards, until `end()` or the end of the `with` block kills it.
        wait: return when the function has completed; otherwise immediately.
    """

    def __init__(self, function: Callable[[], object], keep_alive: bool = False, wait: bool = True) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            exit_code = 1
            try:
                os.close(reader)
                function()
                if wait:
                    os.write(writer, b"1")
                if keep_alive:
                    signal.pause()
                exit_code = 0
            except BaseException:
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(exit_code)
        os.close(writer)
        self.completed = wait and os.read(reader, 1) == b"1"
        os.close(reader)
        self.status: int | None = None
        if wait and not keep_alive:
            self.end(None)

    def end(self, sig: signal.Signals | None = signal.SIGKILL) -> int:
        """Send a signal, unless it is None, wait for the process to end and return its wait status."""
        if self.status is None:
            if sig is not None:
                os.kill(self.pid, sig)
            self.status = os.waitpid(self.pid, 0)[1]
        return self.status

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

"""Workers without a server: processes forked from the test, each with its own numbers."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


class Child:
    """A forked process that runs a function.

    Args:
        work: what it runs.
        stay: wait for its end afterwards; it is killed at the latest when the test lets go.
        wait: come back when it has run; otherwise at once.
    """

    def __init__(self, work: Callable[[], object], stay: bool = False, wait: bool = True) -> None:
        ready, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(ready)
                work()
                if wait:
                    os.write(told, b"1")
                if stay:
                    signal.pause()
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(code)
        os.close(told)
        self.worked = wait and os.read(ready, 1) == b"1"
        os.close(ready)
        self.status: int | None = None
        if wait and not stay:
            self.end(None)

    def end(self, sig: signal.Signals | None = signal.SIGKILL) -> int:
        """Kill it, or wait for its own end; its status."""
        if self.status is None:
            if sig is not None:
                os.kill(self.pid, sig)
            self.status = os.waitpid(self.pid, 0)[1]
        return self.status

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

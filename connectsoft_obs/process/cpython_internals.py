"""Private names of the standard library that have no public equivalent.

`tests/health/test_private_names.py` checks each of them on the installed Python version.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Mapping
from typing import Any


def stored_exception(future: Any) -> BaseException | None:
    """The exception of a finished asyncio task or future, without marking it as retrieved.

    `future.exception()` would stop asyncio from reporting an exception that is never retrieved.
    """
    exception: BaseException | None = getattr(future, "_exception", None)
    return exception


def process_keyword_arguments() -> Mapping[str, Any]:
    """The keyword arguments that `multiprocessing` started this process with; empty in the main process."""
    arguments: Mapping[str, Any] | None = getattr(multiprocessing.current_process(), "_kwargs", None)
    return arguments or {}


def is_loop_signal_handler(handler: Any, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a signal handler is the placeholder that `loop.add_signal_handler` installs, in asyncio or uvloop.

    The placeholder does nothing: the loop reads the signal number from its wakeup descriptor.
    """
    package = str(getattr(handler, "__module__", "")).partition(".")[0]
    return package in ("asyncio", type(loop).__module__.partition(".")[0])


class _StartEvent(threading.Event):
    """The event that `Thread.start()` waits for, with a limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the thread runs.

        Raises:
            TimeoutError: it does not run in time.
        """
        if not super().wait(self._seconds if timeout is None else timeout):
            message = f"the new thread did not run within {self._seconds} s"
            raise TimeoutError(message)
        return True


def limit_start_wait(thread: threading.Thread, seconds: float) -> None:
    """Let `thread.start()` raise TimeoutError if the thread does not run within `seconds`.

    `Thread.start()` waits without a limit for a thread that ends before its first Python instruction, because memory for
    its first frame cannot be allocated. Has no effect on Python versions without this private attribute.
    """
    if isinstance(getattr(thread, "_started", None), threading.Event):
        thread._started = _StartEvent(seconds)  # type: ignore[attr-defined]  # noqa: SLF001

"""Private names of the standard library that have no public equivalent.

`tests/health/test_private_names.py` checks each of them on the installed Python version.
"""

from __future__ import annotations

import asyncio
import multiprocessing
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

"""Starts daemon threads, also if the start can fail: in a container with a PID limit, or at the memory limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from connectsoft_obs.process.cpython_internals import limit_start_wait

START_TIMEOUT = 2.0
"""Seconds to wait for a new thread to run; a thread that has no memory for its first frame never runs."""

RETRY_DELAY = 30.0
"""Seconds without further attempts after a thread did not run in time."""

_retry_at = 0.0


def start_thread(name: str, target: Callable[..., object], *arguments: Any) -> threading.Thread | None:
    """Start a daemon thread.

    Returns None if the operating system refuses a new thread, or if the thread does not run within `START_TIMEOUT`; the
    failure is reported and the caller can retry later.
    """
    global _retry_at
    if monotonic() < _retry_at:
        return None
    claim = [None]  # removed by the new thread when it runs, or here when it is too late
    try:
        thread = threading.Thread(target=_run_claimed, args=(claim, target, arguments), name=name, daemon=True)
        limit_start_wait(thread, START_TIMEOUT)
        thread.start()
    except RuntimeError as error:
        _report_error("threads", error)
        return None
    except (TimeoutError, MemoryError) as error:
        if not claim:  # it has begun to run meanwhile
            return thread
        claim.clear()
        _retry_at = monotonic() + RETRY_DELAY
        _report_error("threads", error)
        return None
    return thread


def _run_claimed(claim: list[None], target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    try:
        claim.pop()
    except IndexError:  # the caller no longer waits
        return
    target(*arguments)


def set_error_reporter(reporter: Callable[[str, BaseException], None]) -> None:
    """Set the function that counts and logs threads that could not be started."""
    global _report_error
    _report_error = reporter


def _ignore_error(where: str, error: BaseException) -> None:
    """Used until internal telemetry is imported."""


_report_error: Callable[[str, BaseException], None] = _ignore_error

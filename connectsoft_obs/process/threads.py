"""Starts daemon threads and tolerates `can't start new thread`, which a container with a PID limit raises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def start_thread(name: str, target: Callable[..., object], *arguments: Any) -> threading.Thread | None:
    """Start a daemon thread.

    Returns None if the operating system refuses a new thread; the failure is reported and the caller can retry later.
    """
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        _report_error("threads", error)
        return None
    return thread


def set_error_reporter(reporter: Callable[[str, BaseException], None]) -> None:
    """Set the function that counts and logs threads that could not be started."""
    global _report_error
    _report_error = reporter


def _ignore_error(where: str, error: BaseException) -> None:
    """Used until internal telemetry is imported."""


_report_error: Callable[[str, BaseException], None] = _ignore_error

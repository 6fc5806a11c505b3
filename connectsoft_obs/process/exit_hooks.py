"""Functions that are called at the end of the process, also in child processes of multiprocessing, which end without `atexit`."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress

_LAST = -1000
"""Exit priority in multiprocessing: after the finalizers of the application."""

_functions: list[Callable[[], None]] = []
_finalizer_pid = 0
"""Process whose finalizers have been added."""


def call_at_exit(function: Callable[[], None]) -> None:
    """Call a function when this process ends, and in each forked child when the child ends.

    The function must be idempotent and must not raise. It is not called if a signal without a handler or `os._exit`
    ends the process; children of multiprocessing end with `os._exit`, but run the finalizers of multiprocessing before.
    """
    atexit.register(function)
    _functions.append(function)
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        _add_finalizers()


def _call_all() -> None:
    for function in _functions:
        function()


def _add_finalizers(*_: object) -> None:
    global _finalizer_pid
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _finalizer_pid != os.getpid():
        _finalizer_pid = os.getpid()
        util.Finalize(None, _call_all, exitpriority=_LAST)


def _after_fork_in_child() -> None:
    """Register the exit functions with multiprocessing in the child, after it has removed those of the parent process."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        with suppress(Exception):
            util.register_after_fork(_add_finalizers, _add_finalizers)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

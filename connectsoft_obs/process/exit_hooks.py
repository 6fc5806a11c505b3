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
_is_registered = False
"""Whether multiprocessing adds the finalizer in its children; forked processes inherit the registration."""


def call_at_exit(function: Callable[[], None]) -> None:
    """Call a function when this process ends, and in each forked child when the child ends.

    The function must be idempotent and must not raise. It is not called if a signal without a handler or `os._exit`
    ends the process; children of multiprocessing end with `os._exit`, but run the finalizers of multiprocessing before.
    """
    atexit.register(function)
    _functions.append(function)
    _register_finalizer()
    multiprocessing = sys.modules.get("multiprocessing.process")
    if len(_functions) == 1 and multiprocessing is not None and multiprocessing.parent_process() is not None:
        _add_finalizer()


def _call_all() -> None:
    for function in _functions:
        function()


def _add_finalizer(*_: object) -> None:
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util.Finalize(None, _call_all, exitpriority=_LAST)


def _register_finalizer() -> None:
    """Let multiprocessing add the finalizer in its children, after it has removed those that exist.

    A child that is not forked from its parent imports the main module, and with it this package, before that.
    """
    global _is_registered
    util = sys.modules.get("multiprocessing.util")
    if util is not None and not _is_registered:
        with suppress(Exception):
            util.register_after_fork(_add_finalizer, _add_finalizer)
            _is_registered = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_register_finalizer)

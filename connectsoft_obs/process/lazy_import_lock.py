"""Delays forks during the first lazy import of the package; `fork_safety` guards all further imports.

Importing the package imports this module, so it imports only modules that are built into the interpreter.
"""

from __future__ import annotations

import os
from _thread import RLock

TYPE_CHECKING = False  # type checkers treat it as True; see `connectsoft_obs`
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

FORK_IMPORT_TIMEOUT = 5.0
"""Maximum seconds that a fork waits for an import: the importing thread may need a lock that is held for the fork."""

_lock = RLock()


def _lazy_import_guard() -> RLock:
    return _lock


import_guard: Callable[[], AbstractContextManager[object]] = _lazy_import_guard
"""Returns the context manager that delays forks; `fork_safety` replaces it by its own."""


def _before_fork() -> None:
    _lock.acquire(timeout=FORK_IMPORT_TIMEOUT)


def _after_fork_in_parent() -> None:
    try:
        _lock.release()
    except RuntimeError:  # the timeout has expired, and this thread does not hold the lock
        return


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

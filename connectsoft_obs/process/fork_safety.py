"""Re-initialises threads, locks and id generators in a forked child."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from connectsoft_obs.process import lazy_import_lock
from connectsoft_obs.process.lazy_import_lock import FORK_IMPORT_TIMEOUT as FORK_IMPORT_TIMEOUT


class ForkAware(Protocol):
    """An object with threads, locks or ids that are valid in one process only."""

    def after_fork_in_child(self) -> None:
        """Re-initialise this object; called in a forked child before any other code of the child."""


_fork_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register_fork_handler(owner: ForkAware) -> None:
    """Call `owner.after_fork_in_child()` in each forked child while `owner` exists. No effect on platforms that cannot fork."""
    _fork_aware.add(owner)


class _ImportGuard:
    """Makes forks wait for threads that import modules, and imports wait for a fork that has begun."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._depth_by_thread: dict[int, int] = {}
        self._forks = 0

    def enter(self) -> None:
        """Begin an import, after a fork that has begun."""
        thread = threading.get_ident()
        with self._condition:
            if thread not in self._depth_by_thread:
                self._condition.wait_for(lambda: not self._forks, FORK_IMPORT_TIMEOUT)
            self._depth_by_thread[thread] = self._depth_by_thread.get(thread, 0) + 1

    def leave(self) -> None:
        """End an import."""
        thread = threading.get_ident()
        with self._condition:
            depth = self._depth_by_thread.pop(thread, 0)  # 0 in a forked child
            if depth > 1:
                self._depth_by_thread[thread] = depth - 1
            self._condition.notify_all()

    def begin_fork(self) -> None:
        """Wait until no other thread imports."""
        thread = threading.get_ident()
        with self._condition:
            self._forks += 1
            self._condition.wait_for(lambda: not self._depth_by_thread.keys() - {thread}, FORK_IMPORT_TIMEOUT)

    def end_fork(self) -> None:
        """Allow imports again."""
        with self._condition:
            self._forks -= 1
            self._condition.notify_all()


_import_guard = _ImportGuard()


@contextmanager
def import_guard() -> Iterator[None]:
    """Delay forks while a thread imports modules, for at most `FORK_IMPORT_TIMEOUT` seconds.

    A module that is being imported during a fork stays locked in the child, and an import of it there never returns.
    """
    guard = _import_guard
    guard.enter()
    try:
        yield
    finally:
        guard.leave()


def _before_fork() -> None:
    _import_guard.begin_fork()


def _after_fork_in_parent() -> None:
    _import_guard.end_fork()


def _after_fork_in_child() -> None:
    global _import_guard
    _import_guard = _ImportGuard()
    for owner in list(_fork_aware):
        with suppress(Exception):
            owner.after_fork_in_child()


for _name in ("logging", "concurrent.futures.thread"):
    # These modules register fork handlers at import, which take locks that an import may need. Handlers registered last
    # run first, so a fork waits for the imports of `import_guard` before it takes those locks.
    importlib.import_module(_name)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

lazy_import_lock.import_guard = import_guard

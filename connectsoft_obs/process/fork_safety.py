"""Re-initialises threads, locks and id generators in a forked child."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol


class ForkAware(Protocol):
    """An object with threads, locks or ids that are valid in one process only."""

    def after_fork_in_child(self) -> None:
        """Re-initialise this object; called in a forked child before any other code of the child."""


FORK_IMPORT_TIMEOUT = 5.0
"""Maximum seconds that a fork waits for an import: the importing thread may need a lock that is held for the fork."""

_fork_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register_fork_handler(owner: ForkAware) -> None:
    """Call `owner.after_fork_in_child()` in each forked child while `owner` exists. No effect on platforms that cannot fork."""
    _fork_aware.add(owner)


_import_lock = threading.RLock()


@contextmanager
def import_guard() -> Iterator[None]:
    """Delay forks while a background thread imports modules, for at most `FORK_IMPORT_TIMEOUT` seconds.

    A module that is being imported during a fork stays locked in the child, and an import of it there never returns.
    One thread at a time can be inside.
    """
    with _import_lock:
        yield


def _before_fork() -> None:
    _import_lock.acquire(timeout=FORK_IMPORT_TIMEOUT)


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # the timeout has expired, and this thread does not hold the lock
        _import_lock.release()


def _after_fork_in_child() -> None:
    global _import_lock
    _import_lock = threading.RLock()
    for owner in list(_fork_aware):
        with suppress(Exception):
            owner.after_fork_in_child()


for _name in ("logging", "concurrent.futures.thread"):
    # These modules register fork handlers at import, which take locks that an import may need. Handlers registered last
    # run first, so a fork waits for the imports of `import_guard` before it takes those locks.
    importlib.import_module(_name)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

"""What must be made anew in a forked child: threads, locks, ids."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol


class ForkAware(Protocol):
    """Something that holds threads, locks or ids of one process."""

    def after_fork_in_child(self) -> None:
        """Called in a forked child, before any other code of it."""


FORK_IMPORT_TIMEOUT = 5.0
"""Seconds that a fork waits at most for an import: whoever imports may wait for a lock that somebody holds for the fork."""

_alive: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register_fork_handler(owner: ForkAware) -> None:
    """Call `owner.after_fork_in_child()` in each forked child for as long as it lives; where processes cannot fork, never."""
    _alive.add(owner)


_unforked = threading.RLock()


@contextmanager
def import_guard() -> Iterator[None]:
    """Inside, a thread of ours imports modules, and forks wait for it, though not for ever. One thread at a time.

    A module that another thread was importing at a fork stays locked in the child, and whoever imports it there hangs.
    """
    with _unforked:
        yield


def _before() -> None:
    _unforked.acquire(timeout=FORK_IMPORT_TIMEOUT)


def _in_parent() -> None:
    with suppress(RuntimeError):  # patience had an end, and the lock is not ours
        _unforked.release()


def _in_child() -> None:
    global _unforked
    _unforked = threading.RLock()
    for owner in list(_alive):
        with suppress(Exception):
            owner.after_fork_in_child()


for _name in ("logging", "concurrent.futures.thread"):
    # These hold locks for a fork that an import may wait for. What is registered last is called first, and to import them is
    # to register them: so forks wait for our imports before they hold anything.
    importlib.import_module(_name)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)

"""What must be made anew in a forked child: threads, locks, ids."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import Protocol


class Forkable(Protocol):
    """Something that holds threads, locks or ids of one process."""

    def forked(self) -> None:
        """Called in a forked child, before any other code of it."""


unforked: threading.RLock = threading.RLock()
"""Held while a thread of ours imports modules: forks wait for it. A module that another thread was importing at a fork stays
locked in the child for ever, and whoever imports it there hangs."""

_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()


def renew(owner: Forkable) -> None:
    """Call `owner.forked()` in each forked child for as long as it lives; where processes cannot fork, never."""
    _alive.add(owner)


def _in_child() -> None:
    unforked.release()
    for owner in list(_alive):
        with suppress(Exception):
            owner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=unforked.acquire, after_in_parent=unforked.release, after_in_child=_in_child)

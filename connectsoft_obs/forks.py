"""What must be made anew in a forked child: threads, locks, ids."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Protocol


class Forkable(Protocol):
    """Something that holds threads, locks or ids of one process."""

    def forked(self) -> None:
        """Called in a forked child, before any other code of it."""


_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()


def renew(owner: Forkable) -> None:
    """Call `owner.forked()` in each forked child for as long as it lives; where processes cannot fork, never."""
    _alive.add(owner)


def _in_child() -> None:
    for owner in list(_alive):
        with suppress(Exception):
            owner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

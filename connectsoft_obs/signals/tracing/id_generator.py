"""Random trace and span ids, from a generator of our own.

The application's `random` module is left alone, so a program that seeds it draws the same numbers with and without us.
Ids are bytes: a trace's 16 and a span's 8, side by side. That is what the wire takes, and text and numbers are made of it
by one call each (tests/bench/span.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from connectsoft_obs.process.fork_safety import register_fork_handler

_generator = random.Random()  # noqa: S311  ids need to be unique, not secret
bits: Callable[[int], int] = _generator.getrandbits


def new_root_ids() -> bytes:
    """Ids of a new trace and its first span; an id of zeros alone, which is none, comes once in 2**64."""
    return bits(192).to_bytes(24, "big")


def new_child_ids(trace_id: int) -> bytes:
    """Ids of a new span in a trace that there is."""
    return trace_id.to_bytes(16, "big") + bits(64).to_bytes(8, "big")


def seed(seed: int | None) -> None:
    """Draw the same ids from here on as after any other call with this seed; None draws unpredictable ones again."""
    _generator.seed(seed)


class _Seeds:
    """A forked child would draw its parent's ids."""

    def after_fork_in_child(self) -> None:
        """Draw others."""
        _generator.seed()


_seeds = _Seeds()
register_fork_handler(_seeds)

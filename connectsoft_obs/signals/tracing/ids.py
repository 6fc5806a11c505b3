"""Random trace and span ids, from a generator of our own.

The application's `random` module is left alone, so a program that seeds it draws the same numbers with and without us.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from connectsoft_obs.forks import renew

_generator = random.Random()  # noqa: S311  ids need to be unique, not secret
bits: Callable[[int], int] = _generator.getrandbits


def trace_id() -> int:
    """128 random bits, not all zero."""
    return bits(128) or 1


def span_id() -> int:
    """64 random bits, not all zero."""
    return bits(64) or 1


def fix(seed: int | None) -> None:
    """Draw the same ids from here on as after any other call with this seed; None draws unpredictable ones again."""
    _generator.seed(seed)


class _Seeds:
    """A forked child would draw its parent's ids."""

    def forked(self) -> None:
        """Draw others."""
        _generator.seed()


_seeds = _Seeds()
renew(_seeds)

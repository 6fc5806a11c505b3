"""Random trace and span ids.

They have their own generator, so that an application that seeds `random` gets the same numbers as without this package.
Ids are bytes, 16 of the trace followed by 8 of the span: the format of OTLP, from which text and integers are made by one
call each (tests/bench/span.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from connectsoft_obs.process.fork_safety import register_fork_handler

_generator = random.Random()  # noqa: S311  ids need to be unique, not secret
random_bits: Callable[[int], int] = _generator.getrandbits


def new_root_ids() -> bytes:
    """Ids of a new trace and its root span. An invalid id of zeros has a probability of 2**-64."""
    return random_bits(192).to_bytes(24, "big")


def new_child_ids(trace_id: int) -> bytes:
    """Ids of a new span in an existing trace."""
    return trace_id.to_bytes(16, "big") + random_bits(64).to_bytes(8, "big")


def seed(seed: int | None) -> None:
    """Make the following ids reproducible; None makes them random again."""
    _generator.seed(seed)


class _SeedAfterFork:
    """Re-seeds in a forked child, which would otherwise generate the same ids as its parent."""

    def after_fork_in_child(self) -> None:
        """Re-seed the generator."""
        _generator.seed()


_seed_after_fork = _SeedAfterFork()
register_fork_handler(_seed_after_fork)

"""Ids that are the same in each run, for tests that keep what was reported in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connectsoft_obs.signals.tracing import id_generator


@contextmanager
def fixed_ids(seed: int = 0) -> Iterator[None]:
    """Draw the same trace and span ids each time the block is run with this seed, in the order in which they are drawn.

    For the whole process, so for one test at a time in it; pytest-xdist's workers are processes of their own. After the
    block ids are unpredictable again. The application's `random` module is not touched.

    Args:
        seed: which ids.
    """
    id_generator.seed(seed)
    try:
        yield
    finally:
        id_generator.seed(None)

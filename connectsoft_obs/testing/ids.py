"""Reproducible trace and span ids, for tests that compare telemetry with a stored file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from connectsoft_obs.signals.tracing import id_generator


@contextmanager
def fixed_ids(seed: int = 0) -> Iterator[None]:
    """Generate the same sequence of trace and span ids in each block with the same seed.

    Applies to all threads of the process, so only one test at a time can use it; workers of pytest-xdist are separate
    processes. After the block, ids are random again. The `random` module is not affected.

    Args:
        seed: seed of the sequence.
    """
    id_generator.seed(seed)
    try:
        yield
    finally:
        id_generator.seed(None)

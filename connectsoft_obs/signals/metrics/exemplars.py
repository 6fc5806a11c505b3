"""Exemplars: for each bucket of a histogram one measurement and the trace it was made in.

A mark is 48 bytes: when (nanoseconds since 1970), value, trace id, span id, and when again. It is written by one call
that does not let go of the GIL, so threads cannot mix two of them; a reader in another process that meets a writer in
the middle sees two different times and takes the mark for empty. So does whoever reads the file of a process that was
killed in between.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES

write: Callable[[Any, int, int, float, bytes, int], None] = struct.Struct("=qd24sq").pack_into
_read = struct.Struct("=qd16s8sq").iter_unpack


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One measurement and the trace it was made in. `time` is in nanoseconds since 1970, as OTLP has it."""

    value: float
    time: int
    trace_id: int
    span_id: int

    @property
    def when(self) -> float:
        """The time in seconds."""
        return self.time / 1_000_000_000  # of two ints: rounded once


def read(marks: bytes) -> tuple[Exemplar | None, ...]:
    """The exemplar of each bucket, None where there is none."""
    return tuple(
        Exemplar(value, when, int.from_bytes(trace, "big"), int.from_bytes(span, "big"))
        if when and when == again
        else None
        for when, value, trace, span, again in _read(marks)
    )


def newest(one: bytes, other: bytes) -> bytes:
    """Of two workers' marks the later one in each bucket."""
    mine, theirs = _times(one), _times(other)
    later = [position for position, when in enumerate(theirs) if when > mine[position]]
    if not later:
        return one
    chosen = bytearray(one)
    for position in later:
        chosen[position * EXEMPLAR_BYTES : (position + 1) * EXEMPLAR_BYTES] = other[
            position * EXEMPLAR_BYTES : (position + 1) * EXEMPLAR_BYTES
        ]
    return bytes(chosen)


def _times(marks: bytes) -> list[int]:
    return [*memoryview(marks).cast("q")[:: EXEMPLAR_BYTES // 8].tolist()]

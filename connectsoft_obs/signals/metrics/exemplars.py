"""Exemplars: for each bucket of a histogram one measurement and the trace it was made in.

A mark is 48 bytes: when (Unix time), value, trace id, span id, and when again. It is written by one call
that does not let go of the GIL, so threads cannot mix two of them; a reader in another process that meets a writer in
the middle sees two different times and takes the mark for empty. So does whoever reads the file of a process that was
killed in between.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.signals.metrics.cells import MARK

write: Callable[[Any, int, float, float, bytes, float], None] = struct.Struct("=dd24sd").pack_into
_read = struct.Struct("=dd16s8sd").iter_unpack


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One measurement and the trace it was made in. `when` is Unix time in seconds."""

    value: float
    when: float
    trace_id: int
    span_id: int


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
        chosen[position * MARK : (position + 1) * MARK] = other[position * MARK : (position + 1) * MARK]
    return bytes(chosen)


def _times(marks: bytes) -> list[float]:
    return [*memoryview(marks).cast("d")[:: MARK // 8].tolist()]

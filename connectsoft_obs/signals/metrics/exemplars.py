"""Exemplars: one measurement per histogram bucket, with the trace in which it was made.

An exemplar slot has 48 bytes: timestamp (nanoseconds since 1970), value, trace id, span id, and the timestamp again. One
call writes it without releasing the GIL, so threads cannot interleave two exemplars. A reader in another process that
reads during a write, or after the writer was killed during one, sees two different timestamps and ignores the slot.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectsoft_obs.signals.metrics.storage import EXEMPLAR_BYTES

write_exemplar: Callable[[Any, int, int, float, bytes, int], None] = struct.Struct("=qd24sq").pack_into
_unpack_slots = struct.Struct("=qd16s8sq").iter_unpack


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One measurement and its trace context. `time_unix_nano` is in nanoseconds since 1970, as in OTLP."""

    value: float
    time_unix_nano: int
    trace_id: int
    span_id: int

    @property
    def timestamp(self) -> float:
        """Seconds since 1970."""
        return self.time_unix_nano / 1_000_000_000  # dividing two integers rounds only once


def decode_exemplars(encoded: bytes) -> tuple[Exemplar | None, ...]:
    """Decode the exemplar of each bucket, None for an empty slot."""
    return tuple(
        Exemplar(value, timestamp, int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"))
        if timestamp and timestamp == end_timestamp
        else None
        for timestamp, value, trace_id, span_id, end_timestamp in _unpack_slots(encoded)
    )


def merge_newest(first: bytes, second: bytes) -> bytes:
    """Merge the encoded exemplars of two workers: the newer one of each bucket."""
    first_times, second_times = _timestamps(first), _timestamps(second)
    newer = [bucket for bucket, timestamp in enumerate(second_times) if timestamp > first_times[bucket]]
    if not newer:
        return first
    merged = bytearray(first)
    for bucket in newer:
        start, end = bucket * EXEMPLAR_BYTES, (bucket + 1) * EXEMPLAR_BYTES
        merged[start:end] = second[start:end]
    return bytes(merged)


def _timestamps(encoded: bytes) -> list[int]:
    return [*memoryview(encoded).cast("q")[:: EXEMPLAR_BYTES // 8].tolist()]

"""The form of a file of cells: records one after the other, each whole or not there.

A record is a head (CRC-32 of what follows up to the cells, length of the key, kind, number of 8-byte cells), the key
padded to 8 bytes, and the cells. The head is written last, so that a record whose writer was killed does not exist; the
checksum covers the processors that show another process the head before the key. A head of zeros is the end of a
segment. Segments double the file: 64 KiB, 64 KiB, 128 KiB, and so on; no record crosses from one to the next.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

FIRST = 64 * 1024
LARGEST = 32 * 1024
"""Bytes of one record at most; half of the smallest segment."""

DEFINITION, SERIES, MARKS, FOLDED = 1, 2, 3, 4
"""Kinds: a metric's definition as JSON, the cells of a series, its exemplars, and the names of files in an archive."""

_HEAD = struct.Struct("=IIII")
_COVERED = struct.Struct("=III")
_NOTHING = bytes(_HEAD.size)


class FileRecord(NamedTuple):
    """One record: its kind, the number of its family in this file, its key, and where its cells are, in bytes."""

    kind: int
    family: int
    key: bytes
    place: int
    cells: int


def size(key: bytes, cells: int) -> int:
    """Bytes of a record."""
    return _HEAD.size + _padded(len(key)) + 8 * cells


def write(buffer: memoryview, offset: int, kind: int, family: int, key: bytes, cells: int) -> int:
    """Write a record into zeros; gives back where its cells are."""
    start = offset + _HEAD.size
    buffer[start : start + len(key)] = key
    covered = _COVERED.pack(len(key), kind | family << 8, cells)
    _HEAD.pack_into(buffer, offset, crc32(key, crc32(covered)), len(key), kind | family << 8, cells)
    return start + _padded(len(key))


def segment(number: int) -> tuple[int, int]:
    """Offset and length of a segment."""
    return (0, FIRST) if number == 0 else (FIRST << number - 1, FIRST << number - 1)


def scan(data: memoryview, position: int) -> Iterator[tuple[FileRecord, int]]:
    """The whole records from a position on, each with the position after it.

    `position` is where the last scan of the same file ended, or 0. Stops where the writer has got to.
    """
    end = _end_of_segment(position)
    while position < len(data):
        if position + _HEAD.size > end or data[position : position + _HEAD.size] == _NOTHING:
            position, end = end, _end_of_segment(end)
            if position >= len(data) or data[position : position + _HEAD.size] == _NOTHING:
                return
        record = _record(data, position)
        if record is None:
            return
        position = record.place + 8 * record.cells
        yield record, position


def _record(data: memoryview, position: int) -> FileRecord | None:
    crc, length, kind, cells = _HEAD.unpack_from(data, position)
    start = position + _HEAD.size
    place = start + _padded(length)
    if place + 8 * cells > len(data):
        return None
    key = data[start : start + length].tobytes()
    if crc32(key, crc32(_COVERED.pack(length, kind, cells))) != crc:
        return None
    return FileRecord(kind & 0xFF, kind >> 8, key, place, cells)


def _end_of_segment(position: int) -> int:
    end = FIRST
    while end <= position:
        end *= 2
    return end


def _padded(length: int) -> int:
    return (length + 7) & ~7

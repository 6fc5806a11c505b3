"""The format of a worker file: consecutive records, each of which exists completely or not at all.

A record is a header (CRC-32 of everything from the key length to the end of the key, length of the key, kind and
family, number of 8-byte cells), the key padded to a multiple of 8 bytes, and the cells. The header is written last, so
that a record whose writer was killed does not exist. The checksum covers processors that make the header visible to
another process before the key. A header of zeros ends a segment. Segments double the file size: 64 KiB, 64 KiB,
128 KiB, and so on; no record crosses a segment boundary.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

FIRST_SEGMENT_SIZE = 64 * 1024
MAX_RECORD_SIZE = 32 * 1024
"""Maximum size of a record in bytes; half of the smallest segment."""

DEFINITION, SERIES, EXEMPLARS, ARCHIVED_FILES = 1, 2, 3, 4
"""Record kinds: a metric definition as JSON, the cells of a series, its exemplars, and the file names in an archive."""

_HEADER = struct.Struct("=IIII")
_HEADER_WITHOUT_CRC = struct.Struct("=III")
_EMPTY_HEADER = bytes(_HEADER.size)


class FileRecord(NamedTuple):
    """One record: kind, number of its family in this file, key, and offset and number of its cells.

    The offset is in bytes from the start of the file.
    """

    kind: int
    family: int
    key: bytes
    cells_offset: int
    cell_count: int


def record_size(key: bytes, cell_count: int) -> int:
    """Size of a record in bytes."""
    return _HEADER.size + _padded_size(len(key)) + 8 * cell_count


def write_record(buffer: memoryview, offset: int, kind: int, family: int, key: bytes, cell_count: int) -> int:
    """Write a record into a zeroed buffer and return the offset of its cells."""
    start = offset + _HEADER.size
    buffer[start : start + len(key)] = key
    fields = (len(key), kind | family << 8, cell_count)
    _HEADER.pack_into(buffer, offset, crc32(key, crc32(_HEADER_WITHOUT_CRC.pack(*fields))), *fields)
    return start + _padded_size(len(key))


def segment_range(number: int) -> tuple[int, int]:
    """Offset and length of a segment in bytes."""
    if number == 0:
        return 0, FIRST_SEGMENT_SIZE
    return FIRST_SEGMENT_SIZE << number - 1, FIRST_SEGMENT_SIZE << number - 1


def scan_records(data: memoryview, position: int) -> Iterator[tuple[FileRecord, int]]:
    """Yield the complete records from a position on, each with the position of the next record.

    `position` is where the previous scan of the same file ended, or 0. The scan ends at the first incomplete record.
    """
    end = _end_of_segment(position)
    while position < len(data):
        if position + _HEADER.size > end or data[position : position + _HEADER.size] == _EMPTY_HEADER:
            position, end = end, _end_of_segment(end)
            if position >= len(data) or data[position : position + _HEADER.size] == _EMPTY_HEADER:
                return
        record = _read_record(data, position)
        if record is None:
            return
        position = record.cells_offset + 8 * record.cell_count
        yield record, position


def _read_record(data: memoryview, position: int) -> FileRecord | None:
    """The record at a position, or None if it is incomplete or its checksum is wrong."""
    crc, *fields = _HEADER.unpack_from(data, position)
    key_length, kind_and_family, cell_count = fields
    start = position + _HEADER.size
    cells_offset = start + _padded_size(key_length)
    if cells_offset + 8 * cell_count > len(data):
        return None
    key = data[start : start + key_length].tobytes()
    if crc32(key, crc32(_HEADER_WITHOUT_CRC.pack(*fields))) != crc:
        return None
    return FileRecord(kind_and_family & 0xFF, kind_and_family >> 8, key, cells_offset, cell_count)


def _end_of_segment(position: int) -> int:
    end = FIRST_SEGMENT_SIZE
    while end <= position:
        end *= 2
    return end


def _padded_size(length: int) -> int:
    return (length + 7) & ~7

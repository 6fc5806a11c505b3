"""The worker file format: each record exists completely or not at all, even if the writer is killed."""

from __future__ import annotations

import mmap
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.cooperative import no_pause
from connectsoft_obs.signals.metrics.multiprocess import file_format
from connectsoft_obs.signals.metrics.multiprocess.reader import WorkerFileReader
from connectsoft_obs.signals.metrics.multiprocess.writer import WorkerFile
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import ACTIVE_REQUESTS, LOOP_LAG, REQUEST_DURATION

KEYS = strategies.lists(strategies.tuples(strategies.binary(max_size=300), strategies.integers(0, 60)), max_size=60)


def fail_on_error(error: Exception) -> None:
    pytest.fail(str(error))


def read_totals(path: Path) -> WorkerTotals:
    totals = WorkerTotals()
    WorkerFileReader(path).add_to(totals, no_pause)
    return totals


@given(KEYS)
def test_records_are_read_in_the_order_in_which_they_were_written(keys: list[tuple[bytes, int]]) -> None:
    data = bytearray(4 * file_format.FIRST_SEGMENT_SIZE)
    view, offset = memoryview(data), 0
    for number, (key, cell_count) in enumerate(keys):
        cells_offset = file_format.write_record(view, offset, 1 + number % 4, number, key, cell_count)
        data[cells_offset : cells_offset + 8 * cell_count] = b"\xff" * (8 * cell_count)
        offset += file_format.record_size(key, cell_count)
        assert offset % 8 == cells_offset % 8 == 0
    records = [record for record, _ in file_format.scan_records(view, 0)]
    assert [(record.kind, record.family, record.key, record.cell_count) for record in records] == [
        (1 + number % 4, number, key, cell_count) for number, (key, cell_count) in enumerate(keys)
    ]


@settings(max_examples=200)
@given(KEYS, strategies.data())
def test_incomplete_record_ends_the_scan_after_the_records_before_it(
    keys: list[tuple[bytes, int]], data: strategies.DataObject
) -> None:
    content = bytearray(4 * file_format.FIRST_SEGMENT_SIZE)
    ends, offset = [], 0
    for key, cell_count in keys:
        file_format.write_record(memoryview(content), offset, file_format.SERIES, 0, key, cell_count)
        offset += file_format.record_size(key, cell_count)
        ends.append(offset)
    written_size = data.draw(strategies.integers(0, offset), label="bytes written before the writer was killed")
    content[written_size:] = bytes(len(content) - written_size)
    records = [record for record, _ in file_format.scan_records(memoryview(content), 0)]
    complete = sum(end <= written_size for end in ends)
    # The last record is also read if only its cells are missing: new cells are zeros. Its header and key must exist.
    assert [record.key for record in records[:complete]] == [key for key, _ in keys[:complete]]
    assert len(records) <= complete + 1


def test_flipped_bit_in_header_or_key_is_detected() -> None:
    content = bytearray(file_format.FIRST_SEGMENT_SIZE)
    cells_offset = file_format.write_record(memoryview(content), 0, file_format.SERIES, 3, b"GET\0/items", 2)
    for position in range(16 + len(b"GET\0/items")):
        for bit in range(8):
            content[position] ^= 1 << bit
            assert [record for record, _ in file_format.scan_records(memoryview(content), 0)] == []
            content[position] ^= 1 << bit
    assert cells_offset == 32
    assert len(list(file_format.scan_records(memoryview(content), 0))) == 1


def test_reader_sees_series_added_after_the_previous_read(tmp_path: Path) -> None:
    file = WorkerFile(tmp_path, fail_on_error)
    reader = WorkerFileReader(tmp_path / file.name)
    for number in range(3000):  # several segments
        cells = file.allocate_cells(ACTIVE_REQUESTS, (f"M{number}", "http" * (number % 50)), 1)
        cells[0] = number
        if number % 271 == 0 or number == 2999:
            totals = WorkerTotals()
            assert reader.add_to(totals, no_pause), "its writer is alive"
            series = totals.families[ACTIVE_REQUESTS.name].series
            assert len(series) == number + 1
            assert sum(series.values()) == sum(range(number + 1))
    assert (tmp_path / file.name).stat().st_size >= 4 * file_format.FIRST_SEGMENT_SIZE


def test_label_values_are_read_as_written(tmp_path: Path) -> None:
    file = WorkerFile(tmp_path, fail_on_error)
    labels = [("", ""), ("GET", ""), ("", "http"), ('é\n"\\%s{}', "\u2028"), ("a" * 900, "b")]
    for number, values in enumerate(labels):
        file.allocate_cells(ACTIVE_REQUESTS, values, 1)[0] = number + 1
    file.allocate_cells(LOOP_LAG, (), len(LOOP_LAG.buckets) + 2)[1] = 5
    totals = read_totals(tmp_path / file.name)
    assert totals.families[ACTIVE_REQUESTS.name].series == {
        values: number + 1.0 for number, values in enumerate(labels)
    }
    assert totals.families[ACTIVE_REQUESTS.name].metric == ACTIVE_REQUESTS
    lag = totals.families[LOOP_LAG.name]
    assert lag.metric == LOOP_LAG
    assert isinstance(lag.series[()], HistogramData)
    assert lag.series[()].count == 5


def test_series_too_large_for_a_file_is_stored_in_memory(tmp_path: Path) -> None:
    errors: list[Exception] = []
    file = WorkerFile(tmp_path, errors.append)
    large_cells = file.allocate_cells(REQUEST_DURATION, ("x" * file_format.MAX_RECORD_SIZE, "", "", "", "", ""), 16)
    large_cells[0] += 1
    assert large_cells[0] == 1
    assert len(errors) == 1
    assert read_totals(tmp_path / file.name).families[REQUEST_DURATION.name].series == {}


def test_full_disk_causes_errors_and_does_not_kill_the_process(tmp_path: Path) -> None:
    """A write to a mapped page without disk space raises SIGBUS; allocating the space first raises an error instead."""
    errors: list[Exception] = []
    file = WorkerFile(tmp_path, errors.append)
    original_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    original_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * file_format.FIRST_SEGMENT_SIZE, original_limit[1]))
        all_cells = [file.allocate_cells(ACTIVE_REQUESTS, (f"M{number}", "http" * 20), 1) for number in range(3000)]
        for cells in all_cells:
            cells[0] += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, original_limit)
        signal.signal(signal.SIGXFSZ, original_handler)
    assert errors
    assert isinstance(errors[0], OSError)
    assert all(cells[0] == 1 for cells in all_cells)
    shared = read_totals(tmp_path / file.name).families[ACTIVE_REQUESTS.name].series
    assert 500 < len(shared) < 3000


def test_space_is_allocated_before_it_is_mapped(tmp_path: Path) -> None:
    file = WorkerFile(tmp_path, fail_on_error)
    status = (tmp_path / file.name).stat()
    assert status.st_blocks * 512 >= status.st_size >= file_format.FIRST_SEGMENT_SIZE
    assert status.st_size % mmap.ALLOCATIONGRANULARITY == 0
    assert status.st_mode & 0o077 == 0, "only the owner can read it"

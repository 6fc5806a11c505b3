"""The files of workers hold whole records or none, whatever happens to their writer."""

from __future__ import annotations

import mmap
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.cooperative import no_pause
from connectsoft_obs.signals.metrics.multiprocess import file_format
from connectsoft_obs.signals.metrics.multiprocess.reader import WorkerFileReader
from connectsoft_obs.signals.metrics.multiprocess.writer import WorkerFile
from connectsoft_obs.signals.metrics.series import HistogramData
from connectsoft_obs.vocabulary import ACTIVE_REQUESTS, LOOP_LAG, REQUEST_DURATION

KEYS = some.lists(some.tuples(some.binary(max_size=300), some.integers(0, 60)), max_size=60)


def fail(error: Exception) -> None:
    pytest.fail(str(error))


def found(path: Path) -> WorkerTotals:
    totals = WorkerTotals()
    WorkerFileReader(path).add_to(totals, no_pause)
    return totals


@given(KEYS)
def test_every_record_is_read_back_in_order(keys: list[tuple[bytes, int]]) -> None:
    data = bytearray(4 * file_format.FIRST)
    view, offset = memoryview(data), 0
    for number, (key, cells) in enumerate(keys):
        place = file_format.write(view, offset, 1 + number % 4, number, key, cells)
        data[place : place + 8 * cells] = b"\xff" * (8 * cells)
        offset += file_format.size(key, cells)
        assert offset % 8 == place % 8 == 0
    back = [record for record, _ in file_format.scan(view, 0)]
    assert [(record.kind, record.family, record.key, record.cells) for record in back] == [
        (1 + number % 4, number, key, cells) for number, (key, cells) in enumerate(keys)
    ]


@settings(max_examples=200)
@given(KEYS, some.data())
def test_a_record_that_is_not_whole_ends_the_reading_and_spoils_nothing_before(
    keys: list[tuple[bytes, int]], data: some.DataObject
) -> None:
    content = bytearray(4 * file_format.FIRST)
    ends, offset = [], 0
    for key, cells in keys:
        file_format.write(memoryview(content), offset, file_format.SERIES, 0, key, cells)
        offset += file_format.size(key, cells)
        ends.append(offset)
    cut = data.draw(some.integers(0, offset), label="the writer got this far")
    content[cut:] = bytes(len(content) - cut)
    back = [record for record, _ in file_format.scan(memoryview(content), 0)]
    whole = sum(end <= cut for end in ends)
    # The cells of the last one may be missing, which are zeros as they are; its head and key may not.
    assert [record.key for record in back[:whole]] == [key for key, _ in keys[:whole]]
    assert len(back) <= whole + 1


def test_a_flipped_bit_in_a_head_or_a_key_is_noticed() -> None:
    content = bytearray(file_format.FIRST)
    place = file_format.write(memoryview(content), 0, file_format.SERIES, 3, b"GET\0/items", 2)
    for position in range(16 + len(b"GET\0/items")):
        for bit in range(8):
            content[position] ^= 1 << bit
            assert [record for record, _ in file_format.scan(memoryview(content), 0)] == []
            content[position] ^= 1 << bit
    assert place == 32
    assert len(list(file_format.scan(memoryview(content), 0))) == 1


def test_an_index_grows_with_the_file_and_sees_what_was_added(tmp_path: Path) -> None:
    file = WorkerFile(tmp_path, fail)
    peer = WorkerFileReader(tmp_path / file.name)
    for number in range(3000):  # several segments
        cells = file.cells(ACTIVE_REQUESTS, (f"M{number}", "http" * (number % 50)), 1)
        cells[0] = number
        if number % 271 == 0 or number == 2999:
            totals = WorkerTotals()
            assert peer.add_to(totals, no_pause), "its writer lives"
            series = totals.families[ACTIVE_REQUESTS.name].series
            assert len(series) == number + 1
            assert sum(series.values()) == sum(range(number + 1))
    assert (tmp_path / file.name).stat().st_size >= 4 * file_format.FIRST


def test_every_label_value_survives_the_file(tmp_path: Path) -> None:
    file = WorkerFile(tmp_path, fail)
    labels = [("", ""), ("GET", ""), ("", "http"), ('é\n"\\%s{}', "\u2028"), ("a" * 900, "b")]
    for number, values in enumerate(labels):
        file.cells(ACTIVE_REQUESTS, values, 1)[0] = number + 1
    file.cells(LOOP_LAG, (), len(LOOP_LAG.buckets) + 2)[1] = 5
    totals = found(tmp_path / file.name)
    assert totals.families[ACTIVE_REQUESTS.name].series == {values: n + 1.0 for n, values in enumerate(labels)}
    assert totals.families[ACTIVE_REQUESTS.name].metric == ACTIVE_REQUESTS
    lag = totals.families[LOOP_LAG.name]
    assert lag.metric == LOOP_LAG
    assert isinstance(lag.series[()], HistogramData)
    assert lag.series[()].count == 5


def test_a_series_too_large_for_a_file_is_kept_by_its_worker(tmp_path: Path) -> None:
    errors: list[Exception] = []
    file = WorkerFile(tmp_path, errors.append)
    huge = file.cells(REQUEST_DURATION, ("x" * file_format.LARGEST, "", "", "", "", ""), 16)
    huge[0] += 1
    assert huge[0] == 1
    assert len(errors) == 1
    assert found(tmp_path / file.name).families[REQUEST_DURATION.name].series == {}


def test_a_full_disk_refuses_series_and_kills_nobody(tmp_path: Path) -> None:
    """Writing to a mapped page without room on the disk is a SIGBUS; room is reserved first, and its lack is an error."""
    errors: list[Exception] = []
    file = WorkerFile(tmp_path, errors.append)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * file_format.FIRST, before[1]))
        cells = [file.cells(ACTIVE_REQUESTS, (f"M{number}", "http" * 20), 1) for number in range(3000)]
        for one in cells:
            one[0] += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert errors
    assert isinstance(errors[0], OSError)
    assert all(one[0] == 1 for one in cells)
    shared = found(tmp_path / file.name).families[ACTIVE_REQUESTS.name].series
    assert 500 < len(shared) < 3000


def test_space_is_reserved_before_it_is_mapped(tmp_path: Path) -> None:
    file = WorkerFile(tmp_path, fail)
    status = (tmp_path / file.name).stat()
    assert status.st_blocks * 512 >= status.st_size >= file_format.FIRST
    assert status.st_size % mmap.ALLOCATIONGRANULARITY == 0
    assert status.st_mode & 0o077 == 0, "nobody else reads it"

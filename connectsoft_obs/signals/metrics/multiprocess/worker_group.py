"""The workers of one service as seen by one of them: its own file, the files of the other workers, and the archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.multiprocess import archive
from connectsoft_obs.signals.metrics.multiprocess.reader import Pause, WorkerFileReader
from connectsoft_obs.signals.metrics.multiprocess.writer import WorkerFile

_MAX_READ_ATTEMPTS = 20
_COMPACTION_THRESHOLD = 8


class WorkerGroup:
    """One worker in a group of workers. Thread-safe, except that only one thread at a time may call `collect_all`.

    Args:
        directory: the directory that the workers share.
        supervisor_pid: pid of the process that started the workers.
        cardinality_limit: maximum number of series per family in the archive.
        on_error: called with each error after construction; no other method than `collect_all` raises.

    Raises:
        OSError: the directory is not writable.
    """

    def __init__(
        self,
        directory: Path,
        supervisor_pid: int,
        cardinality_limit: int,
        on_error: Callable[[Exception], None],
    ) -> None:
        self.directory = directory
        self.supervisor_pid = supervisor_pid
        self.worker_file: WorkerFile = WorkerFile(directory, on_error)
        self._cardinality_limit = cardinality_limit
        self._on_error = on_error
        self._readers: dict[str, WorkerFileReader] = {}
        self._archive: tuple[tuple[int, int] | None, WorkerFileReader] = (
            None,
            WorkerFileReader(directory / archive.ARCHIVE_NAME),
        )
        # Without scrapes, the files of ended workers would accumulate.
        if len(archive.worker_files(directory)) > _COMPACTION_THRESHOLD:
            self._compact(lambda: None)

    def join_forked_child(self) -> WorkerGroup:
        """The group as seen by a process forked from this worker."""
        return WorkerGroup(self.directory, self.supervisor_pid, self._cardinality_limit, self._on_error)

    def collect_all(
        self, collect_own: Callable[[], WorkerTotals], pause: Pause, with_exemplars: bool = True
    ) -> WorkerTotals:
        """The totals of all workers, including ended ones.

        Args:
            collect_own: returns the totals of this worker, to which those of the other workers are added.
            pause: called between series.
            with_exemplars: whether to read exemplars.

        Raises:
            TimeoutError: the archive changed during each attempt. Totals without some of the workers are not returned
                because they look like a counter reset.
        """
        self._compact(pause)
        for _ in range(_MAX_READ_ATTEMPTS):
            totals, archive_id = collect_own(), self._archive_identity()
            with suppress(FileNotFoundError):
                self._add_others(totals, archive_id, pause, with_exemplars)
                # A file that was removed before the directory was listed is part of a newer archive.
                if self._archive_identity() == archive_id:
                    return totals
        raise TimeoutError("the metrics of the workers cannot be collected: workers end faster than files are read")

    def has_others(self) -> bool:
        """Whether another worker has recorded values."""
        return self._archive_identity() is not None or len(archive.worker_files(self.directory)) > 1

    def pids(self) -> list[int]:
        """Pids of the workers of this supervisor that run, or have ended and are not in the archive, and of their children.

        Workers of other supervisors that share the port are left out.
        """
        pids = {archive.worker_pid(path) for path in archive.worker_files(self.directory)}
        workers = {pid for pid in pids if archive.is_child(pid, {self.supervisor_pid})} | {self.supervisor_pid}
        return [pid for pid in pids if pid in workers or archive.is_child(pid, workers)]

    def is_file_removed(self) -> bool:
        """Whether the file of this worker was removed, as systemd does in /dev/shm when the user logs out."""
        return not (self.directory / self.worker_file.name).exists()

    def leave(self) -> None:
        """Stop sharing metrics: counters of this worker remain in its file, gauges of running workers do not."""
        self.worker_file.close()

    def _add_others(
        self, totals: WorkerTotals, archive_id: tuple[int, int] | None, pause: Pause, with_exemplars: bool
    ) -> None:
        if self._archive[0] != archive_id:
            self._archive = (archive_id, WorkerFileReader(self.directory / archive.ARCHIVE_NAME))
        archive_reader = self._archive[1]
        if archive_id is not None:
            archive_reader.add_to(totals, pause, is_alive=False, with_exemplars=with_exemplars)
        others = [path for path in archive.worker_files(self.directory) if path.name != self.worker_file.name]
        self._readers = {path.name: self._readers.get(path.name) or WorkerFileReader(path) for path in others}
        for name, reader in self._readers.items():
            if name not in archive_reader.archived_files:
                self._add_file(reader, totals, pause, with_exemplars)

    def _add_file(self, reader: WorkerFileReader, totals: WorkerTotals, pause: Pause, with_exemplars: bool) -> None:
        try:
            reader.add_to(totals, pause, with_exemplars=with_exemplars)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001  an unreadable file must not prevent reading the others
            self._on_error(error)

    def _archive_identity(self) -> tuple[int, int] | None:
        with suppress(FileNotFoundError):
            status = (self.directory / archive.ARCHIVE_NAME).stat()
            return status.st_ino, status.st_mtime_ns
        return None

    def _compact(self, pause: Pause) -> None:
        try:
            archived_pids = archive.compact(
                self.directory, self.supervisor_pid, self._cardinality_limit, pause, self._on_error
            )
        except OSError as error:  # no space for a new archive: the files remain and are read one by one
            self._on_error(error)
            return
        if archived_pids and os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            from prometheus_client.multiprocess import mark_process_dead

            for pid in archived_pids:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]

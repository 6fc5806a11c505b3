"""The workers of one service, as one of them sees them: its own file, those of the others, and the archive."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from connectsoft_obs.signals.metrics.aggregation import WorkerTotals
from connectsoft_obs.signals.metrics.multiprocess import archive
from connectsoft_obs.signals.metrics.multiprocess.reader import Pause, WorkerFileReader
from connectsoft_obs.signals.metrics.multiprocess.writer import WorkerFile

_ATTEMPTS = 20
_HEAP = 8


class WorkerGroup:
    """One worker among others. Thread-safe, except that one thread at a time may read.

    Args:
        directory: where they meet.
        supervisor: pid of the process that started them.
        limit: series a family may have in the archive.
        failed: told of each error; none is raised later.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, directory: Path, supervisor: int, limit: int, failed: Callable[[Exception], None]) -> None:
        self.directory = directory
        self.supervisor = supervisor
        self.store: WorkerFile = WorkerFile(directory, failed)
        self._limit = limit
        self._failed = failed
        self._peers: dict[str, WorkerFileReader] = {}
        self._archive: tuple[tuple[int, int] | None, WorkerFileReader] = (
            None,
            WorkerFileReader(directory / archive.ARCHIVE),
        )
        if len(archive.files(directory)) > _HEAP:  # workers come and go, and nobody scrapes
            self._fold(lambda: None)

    def join(self) -> WorkerGroup:
        """The same for a process forked from this one."""
        return WorkerGroup(self.directory, self.supervisor, self._limit, self._failed)

    def collect_all(self, own: Callable[[], WorkerTotals], pause: Pause, exemplars: bool = True) -> WorkerTotals:
        """What all workers hold together, those that have ended included; `own` begins with what this one holds.

        Raises:
            TimeoutError: the archive changed all the time. No numbers are better than numbers with some missing, which
                look as if counters had been reset.
        """
        self._fold(pause)
        for _ in range(_ATTEMPTS):
            totals, before = own(), self._archive_identity()
            with suppress(FileNotFoundError):
                self._add_others(totals, before, pause, exemplars)
                # A file that vanished before it was listed is in an archive newer than the one that was read.
                if self._archive_identity() == before:
                    return totals
        raise TimeoutError("workers end faster than their numbers can be added up")

    def pids(self) -> list[int]:
        """This worker, the other living ones, and those whose end their supervisor has not noticed yet."""
        return [archive.pid_of(path) for path in archive.files(self.directory)]

    def removed(self) -> bool:
        """Whether somebody removed this worker's file, as systemd does with those in /dev/shm of users that log out."""
        return not (self.directory / self.store.name).exists()

    def leave(self) -> None:
        """Count here no more: what this worker has counted stays, what it measures now goes."""
        self.store.close()

    def _add_others(
        self, totals: WorkerTotals, identity: tuple[int, int] | None, pause: Pause, exemplars: bool
    ) -> None:
        if self._archive[0] != identity:
            self._archive = (identity, WorkerFileReader(self.directory / archive.ARCHIVE))
        kept = self._archive[1]
        if identity is not None:
            kept.add_to(totals, pause, living=False, exemplars=exemplars)
        others = [path for path in archive.files(self.directory) if path.name != self.store.name]
        self._peers = {path.name: self._peers.get(path.name) or WorkerFileReader(path) for path in others}
        for name, peer in self._peers.items():
            if name not in kept.folded:
                self._add(peer, totals, pause, exemplars)

    def _add(self, peer: WorkerFileReader, totals: WorkerTotals, pause: Pause, exemplars: bool) -> None:
        try:
            peer.add_to(totals, pause, exemplars=exemplars)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001  one file that cannot be read must not keep the others
            self._failed(error)

    def _archive_identity(self) -> tuple[int, int] | None:
        with suppress(FileNotFoundError):
            found = (self.directory / archive.ARCHIVE).stat()
            return found.st_ino, found.st_mtime_ns
        return None

    def _fold(self, pause: Pause) -> None:
        try:
            folded = archive.compact(self.directory, self.supervisor, self._limit, pause, self._failed)
        except OSError as error:  # no room for a new archive: the files stay, and are read one by one
            self._failed(error)
            return
        if folded and os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            from prometheus_client.multiprocess import mark_process_dead

            for pid in folded:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]

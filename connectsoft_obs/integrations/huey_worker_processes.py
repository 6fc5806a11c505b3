"""Huey: tasks whose worker process ends before the task.

Huey removes a task from the queue before it executes it, so that such a task is lost. A worker process stores the task that
it executes in shared memory. The process that replaces it records the task; at the end of the consumer, the main process.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import struct
import time
from contextlib import suppress
from typing import Any

from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.task_queue import task_run

SLOT_SIZE = 4096
"""Bytes for the task of one worker process; the headers of a larger one are omitted."""

_LENGTH = struct.Struct("=I")


class WorkerProcessKilled(Exception):
    """The process that executed a task ended before the task."""


class CurrentTasks:
    """The task that each worker process of a consumer executes. Without `allocate()` nothing is stored."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._slots = 0

    def allocate(self, workers: int) -> None:
        """Allocate the shared memory, in the main process before it starts the workers."""
        self._memory, self._slots = mmap.mmap(-1, SLOT_SIZE * workers), workers

    def store(self, job: str, identifier: str, headers: dict[str, str], attempt: int, trigger: Trigger) -> None:
        """Store the task that this worker process starts."""
        offset = self._offset()
        if self._memory is None or offset is None:
            return
        task = {"job": job, "id": identifier, "attempt": attempt, "trigger": trigger.value, "started": time.time()}
        content = json.dumps({**task, "headers": headers}).encode()
        if len(content) > SLOT_SIZE - _LENGTH.size:
            content = json.dumps({**task, "headers": {}}).encode()
        if len(content) <= SLOT_SIZE - _LENGTH.size:
            start = offset + _LENGTH.size
            self._memory[start : start + len(content)] = content
            _LENGTH.pack_into(self._memory, offset, len(content))  # last: the content is complete

    def clear(self) -> None:
        """Remove the task of this worker process, because the process has recorded it."""
        offset = self._offset()
        if self._memory is not None and offset is not None:
            _LENGTH.pack_into(self._memory, offset, 0)

    def record_of_predecessor(self) -> None:
        """Record the task of the process that this worker process replaces, if it ended before the task."""
        if (offset := self._offset()) is not None:
            self._record(offset)

    def record_of_ended(self, processes: list[Any]) -> None:
        """Record the tasks of worker processes that have ended and are not replaced; call in the main process."""
        for index, process in enumerate(processes[: self._slots]):
            if not process.is_alive():
                self._record(index * SLOT_SIZE)

    def _record(self, offset: int) -> None:
        assert self._memory is not None
        [length] = _LENGTH.unpack_from(self._memory, offset)
        if not length:
            return
        start = offset + _LENGTH.size
        task = json.loads(self._memory[start : start + length])
        _LENGTH.pack_into(self._memory, offset, 0)
        run = task_run(
            task["job"],
            identifier=task["id"],
            headers=task["headers"],
            attempt=task["attempt"],
            trigger=Trigger(task["trigger"]),
        )
        if run.begin():
            run.backdate_start(max(0.0, time.time() - task["started"]))
            run.end(WorkerProcessKilled(f"the worker process of task {task['id']} ended before the task"))

    def _offset(self) -> int | None:
        """Position of the task of this process, which Huey names `Worker-1`, `Worker-2` and so on; None for others."""
        number = 0
        if multiprocessing.parent_process() is not None:
            with suppress(ValueError):
                number = int(multiprocessing.current_process().name.removeprefix("Worker-"))
        return (number - 1) * SLOT_SIZE if 0 < number <= self._slots else None

"""Records each attempt of a numbered job in a file that survives a SIGKILL: one line at its start and one at its end."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from types import TracebackType


class JobFailed(Exception):
    """The job fails and must not be retried."""


class RetryRequested(Exception):
    """The first attempt of the job fails and must be retried."""


class Attempt:
    """One execution of a numbered job, as a context manager around it.

    Args:
        number: the number of the job.
        kind: `success`, `failure` or `retry`; the latter fails at its first attempt.
    """

    def __init__(self, number: int, kind: str) -> None:
        self._number = number
        self._kind = kind
        self._identifier = uuid.uuid4().hex

    @property
    def seconds(self) -> float:
        """Duration of the job: 20 to 200 ms, and one second for each tenth job."""
        return 1.0 if self._number % 10 == 0 else 0.02 + self._number % 7 * 0.03

    def __enter__(self) -> Attempt:
        self._append("start")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        outcomes = {type(None): "success", JobFailed: "failure", RetryRequested: "retry"}
        self._append(outcomes.get(type(error), "aborted"))

    def finish(self) -> None:
        """Return or raise according to the kind of the job."""
        if self._kind == "failure":
            raise JobFailed
        if self._kind == "retry" and self._is_first():
            raise RetryRequested

    def _is_first(self) -> bool:
        marker = Path(os.environ["ATTEMPTS"]).with_suffix(f".{self._number}")
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _append(self, event: str) -> None:
        line = f"{time.time()} {os.getpid()} {self._number} {self._kind} {self._identifier} {event}\n"
        descriptor = os.open(os.environ["ATTEMPTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

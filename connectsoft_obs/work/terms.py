"""What is agreed for all runs of a piece of work, and what became of a run in the light of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.operations import exception_outcome
from connectsoft_obs.vocabulary import ErrorType, Outcome

EARLY_NS = 100_000_000
"""Nanoseconds that whoever enforces a time limit from outside, by cancelling, may have begun to count before the run did."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is agreed for all runs of a piece of work.

    Args:
        timeout: seconds after which a run counts as timed out; None for no limit.
        rejects: exceptions that mean the input is at fault, not the work.
    """

    timeout: float | None = None
    rejects: tuple[type[BaseException], ...] = ()

    @classmethod
    def checked(cls, where: str, timeout: float | None, rejects: Any) -> Terms:
        """Terms as a decorator was given them.

        Raises:
            ConfigurationError: a limit that is none, or something to reject that is no class of exceptions.
        """
        kinds = rejects if isinstance(rejects, tuple) else (rejects,)
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(
                f"{where}(timeout={timeout!r})", "a run cannot take no time", "Give a limit in seconds, or none."
            )
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ConfigurationError(
                f"{where}(rejects={rejects!r})",
                "it names no exceptions",
                "Give an exception class, or a tuple of them.",
            )
        return cls(timeout, kinds)

    def verdict(
        self, error: BaseException | None, elapsed_ns: int, skipped: bool, struck: bool
    ) -> tuple[Outcome, str | None]:
        """Outcome and kind of error of a run, which said itself that it skips its work, or was struck by its time limit."""
        late = self.timeout is not None and elapsed_ns >= self.timeout * 1e9
        if error is None:
            if late:
                return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
            return (Outcome.REJECTED if skipped else Outcome.SUCCESS), None
        if struck:
            return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
        if self.rejects and isinstance(error, self.rejects):
            return Outcome.REJECTED, None
        outcome, name = exception_outcome(error)
        if outcome is Outcome.ABORTED and self.timeout is not None and elapsed_ns >= self.timeout * 1e9 - EARLY_NS:
            return Outcome.TIMEOUT, ErrorType.TIMEOUT.value
        return outcome, name


NO_TERMS = Terms()

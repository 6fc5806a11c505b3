"""The error budget policy of a service: what `slo gate` requires, who decides on exceptions, and when it is reviewed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.durations import DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudgetPolicy:
    """The error budget policy of a service.

    Args:
        min_remaining: percent of an error budget that must be left for a deployment.
        unknown: `pass` if an SLO that never had data permits a deployment, else `fail`.
        approver: role or person that can permit a deployment which the policy stops.
        reviewed: date of the last review, such as `2026-10-01`.
        review_every: seconds between reviews.

    Raises:
        ConfigurationError: a value is not valid.
    """

    min_remaining: float = 0
    unknown: str = "fail"
    approver: str = ""
    reviewed: str = ""
    review_every: float = 90 * DAY

    def __post_init__(self) -> None:
        """Validate the values."""
        if not 0 <= self.min_remaining < 100:
            raise ConfigurationError(
                f"min_remaining={self.min_remaining!r}", "it is not a percentage from 0 to 100", "Write for example 10."
            )
        if self.unknown not in ("fail", "pass"):
            raise ConfigurationError(f"unknown={self.unknown!r}", "it is neither fail nor pass", "Write fail or pass.")
        if self.reviewed:
            try:
                date.fromisoformat(self.reviewed)
            except ValueError:
                raise ConfigurationError(
                    f"reviewed={self.reviewed!r}", "it is not a date", 'Write for example "2026-10-01".'
                ) from None
            try:
                _ = self.next_review
            except OverflowError:
                raise ConfigurationError(
                    f"review_every={self.review_every:g} s",
                    "the next review is after the year 9999",
                    "Write for example 90d.",
                ) from None

    @property
    def next_review(self) -> date | None:
        """The day of the next review; None if no review is stated."""
        if not self.reviewed:
            return None
        return date.fromisoformat(self.reviewed) + timedelta(seconds=self.review_every)

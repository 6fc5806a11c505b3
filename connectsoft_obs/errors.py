"""The exceptions that users can see. They are raised while a service starts, never while it serves."""

from __future__ import annotations


class ObsError(Exception):
    """Base class of all exceptions that connectsoft_obs raises."""


class ConfigurationError(ObsError, ValueError):
    """An invalid setting or argument, detected at startup.

    The message always has three parts, so that the log of a failed deployment shows what to change.

    Args:
        given: the setting and its value, as the operator has written it.
        why: why the value is invalid.
        instead: what to do instead.
    """

    def __init__(self, given: str, why: str, instead: str) -> None:
        super().__init__(given, why, instead)
        self.given = given
        self.why = why
        self.instead = instead

    def __str__(self) -> str:
        return f"{self.given}: {self.why}. {self.instead}"

"""The two errors a caller can see, both raised while starting and never while serving."""

from __future__ import annotations


class ObsError(Exception):
    """Base of every error that connectsoft_obs raises on purpose."""


class ConfigurationError(ObsError, ValueError):
    """A value that cannot work, found at start-up.

    Its text always has the same three parts, so that whoever reads a failed deployment's log can act on it.

    Args:
        given: what was given, quoted as the operator wrote it.
        why: why that cannot work.
        instead: what to do instead.
    """

    def __init__(self, given: str, why: str, instead: str) -> None:
        super().__init__(given, why, instead)
        self.given = given
        self.why = why
        self.instead = instead

    def __str__(self) -> str:
        return f"{self.given}: {self.why}. {self.instead}"

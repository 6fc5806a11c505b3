"""Severities, and from which on each logger writes: the standard library's numbers, OpenTelemetry's words."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

DEBUG, INFO, WARNING, ERROR, CRITICAL = (
    logging.DEBUG,
    logging.INFO,
    logging.WARNING,
    logging.ERROR,
    logging.CRITICAL,
)
LEVEL_BY_NAME: Final = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
SEVERITY_TEXT: Final = {DEBUG: "DEBUG", INFO: "INFO", WARNING: "WARN", ERROR: "ERROR", CRITICAL: "FATAL"}
SEVERITY_NUMBER: Final = {DEBUG: 5, INFO: 9, WARNING: 13, ERROR: 17, CRITICAL: 21}
LEVEL_ALIASES: Final = {
    **LEVEL_BY_NAME,
    "warn": WARNING,
    "exception": ERROR,
    "err": ERROR,
    "fatal": CRITICAL,
    "msg": INFO,
}
ROOT: Final = "root"
"""What the logger above all others is called in settings and by operators."""

_KEPT = 4096


def standard(level: int) -> int:
    """The highest of the five levels that is not above `level`."""
    if level >= ERROR:
        return CRITICAL if level >= CRITICAL else ERROR
    if level >= INFO:
        return WARNING if level >= WARNING else INFO
    return DEBUG


class Levels:
    """The lowest level that each logger writes. Thread-safe.

    A logger without a level of its own has that of the nearest logger above it, by the dots in its name, as in the
    standard library.

    Args:
        lowest: level of all loggers that have none.
        own: levels of single loggers, by name.
    """

    def __init__(self, lowest: int, own: Mapping[str, int]) -> None:
        self._configured = {ROOT: lowest, **own}
        self._changed: dict[str, int] = {}
        self.known: dict[str, int] = {}
        """What `of` said before, by logger."""

    def effective_level(self, logger: str) -> int:
        """The lowest level this logger writes."""
        return self.known.get(logger) or self._look_up(logger)

    def own(self) -> dict[str, int]:
        """The levels that were set, by logger."""
        return {**self._configured, **self._changed}

    def change(self, levels: Mapping[str, int]) -> None:
        """Put these levels over the configured ones, in place of those that were put there before."""
        self._changed = dict(levels)
        self.known = {}

    def _look_up(self, logger: str) -> int:
        own, name = self.own(), logger
        while name and name not in own:
            name = name.rpartition(".")[0]
        level = max(own[name or ROOT], 1)
        if len(self.known) < _KEPT:
            self.known[logger] = level
        return level

"""Log levels: numbers of the standard library, severity text and numbers of OpenTelemetry, and levels per logger."""

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
ROOT_LOGGER: Final = "root"
"""Name of the root logger in settings and on the loggers endpoint."""

_MAX_CACHED = 4096


def standard_level(level: int) -> int:
    """The highest of the five standard levels that is not above `level`; DEBUG for anything below INFO."""
    if level >= ERROR:
        return CRITICAL if level >= CRITICAL else ERROR
    if level >= INFO:
        return WARNING if level >= WARNING else INFO
    return DEBUG


class Levels:
    """The minimum level of each logger. Thread-safe.

    As in the standard library, a logger without a level of its own inherits that of its nearest ancestor, by the dots
    in its name.

    Args:
        default_level: level of the root logger.
        logger_levels: levels of single loggers, by name.
    """

    def __init__(self, default_level: int, logger_levels: Mapping[str, int]) -> None:
        self._configured = {ROOT_LOGGER: default_level, **logger_levels}
        self._overrides: dict[str, int] = {}
        self.cached_levels: dict[str, int] = {}
        """Results of `effective_level()`, by logger."""

    def effective_level(self, logger: str) -> int:
        """The minimum level of a logger, inherited from its ancestors if it has none of its own."""
        return self.cached_levels.get(logger) or self._look_up(logger)

    def explicit_levels(self) -> dict[str, int]:
        """Levels that are set by name: the configured ones and the overrides."""
        return {**self._configured, **self._overrides}

    def set_overrides(self, levels: Mapping[str, int]) -> None:
        """Replace all overrides of the configured levels."""
        self._overrides = dict(levels)
        self.cached_levels = {}

    def _look_up(self, logger: str) -> int:
        levels, name = self.explicit_levels(), logger
        while name and name not in levels:
            name = name.rpartition(".")[0]
        level = max(levels[name or ROOT_LOGGER], 1)
        if len(self.cached_levels) < _MAX_CACHED:
            self.cached_levels[logger] = level
        return level

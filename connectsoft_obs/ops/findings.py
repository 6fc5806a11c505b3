"""Findings of operator tools: a rule that a declaration or a service violates, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Severity of a finding. An error fails a command; a warning fails it in strict mode; a note is information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of a rule.

    Args:
        level: severity.
        code: identifier of the rule, for `--ignore`.
        subject: what the finding is about, such as an SLO or a service.
        message: what is wrong.
        advice: how to fix it.
    """

    level: Level
    code: str
    subject: str
    message: str
    advice: str

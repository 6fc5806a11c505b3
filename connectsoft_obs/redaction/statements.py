"""Replaces the literals of database statements that name a secret, as in `INSERT INTO users (password) VALUES ('x')`.

A statement without a secret name is unchanged. Every expression is bounded, so the time is proportional to the length of
the statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_PLACEHOLDER: Final = "?"
"""Replaces a literal, as the OpenTelemetry convention for `db.query.text` recommends."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*+")
_SINGLE_QUOTED: Final = re.compile(r"'(?:[^'\\]|''|\\.)*+(?:'|\Z)", re.DOTALL)
_DOUBLE_QUOTED: Final = re.compile(r"\"(?:[^\"\\]|\"\"|\\.)*+(?:\"|\Z)", re.DOTALL)
_NUMBER: Final = re.compile(r"(?<![\w.:$?])-?\d++(?:\.\d++)?(?![\w.])")
_VALUES: Final = re.compile(r"\bvalues\s*+\(", re.IGNORECASE)
_PASSWORD_CLAUSE: Final = re.compile(r"\b(?:identified\s++by|password)\s++(?=[\"'])", re.IGNORECASE)
_CREDENTIAL_COMMAND: Final = re.compile(
    r"^([ \t]*+(?:AUTH|ACL[ \t]++SETUSER|CONFIG[ \t]++SET[ \t]++(?:requirepass|masterauth|masteruser)|"
    r"HELLO[ \t]++\d++[ \t]++AUTH|MIGRATE))[ \t]++[^\r\n]++",
    re.IGNORECASE | re.MULTILINE,
)
_SET_COMMAND: Final = re.compile(
    r"^([ \t]*+(?:HM?SET|HSETNX|M?SET|M?SETNX|SETEX|PSETEX|GETSET)[ \t])[^\r\n=]++$", re.IGNORECASE | re.MULTILINE
)


def redact_statement(statement: str, is_secret_key: Callable[[str], bool]) -> tuple[str, int]:
    """The statement with its secret literals replaced, and the number of replacements.

    Args:
        statement: text of an SQL statement or a key-value store command.
        is_secret_key: decides whether a column, field or key of this name holds a secret.
    """
    text, count = _CREDENTIAL_COMMAND.subn(rf"\1 {_PLACEHOLDER}", statement)
    clause = _PASSWORD_CLAUSE.search(text)
    values = _VALUES.search(text) or clause
    if "'" not in text and values is None:
        text, number = _redact_set_commands(text, is_secret_key)
        return text, count + number
    if clause is None and not _names_secret(text, is_secret_key):
        return text, count
    # Double quotes delimit identifiers in standard SQL and literals in MySQL: they are literals in a list of values.
    begin = len(text) if values is None else values.end()
    head, tail = text[:begin], text[begin:]
    tail, double_quoted = _DOUBLE_QUOTED.subn(_PLACEHOLDER, tail)
    tail, numbers = _NUMBER.subn(_PLACEHOLDER, tail)
    text, single_quoted = _replace_single_quoted(head + tail)
    return text, count + double_quoted + numbers + single_quoted


def _redact_set_commands(text: str, is_secret_key: Callable[[str], bool]) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if not _names_secret(match[0], is_secret_key):
            return match[0]
        count += 1
        return f"{match[1]}{_PLACEHOLDER}"

    text = _SET_COMMAND.sub(replace, text)
    return text, count


def _names_secret(text: str, is_secret_key: Callable[[str], bool]) -> bool:
    return any(map(is_secret_key, set(_IDENTIFIER.findall(text))))


def _replace_single_quoted(text: str) -> tuple[str, int]:
    if "\\'" in text:
        # A backslash escapes the quote in MySQL and does not in standard SQL, so the end of the literal is unknown.
        first, last = text.find("'"), text.rfind("'")
        return text[:first] + _PLACEHOLDER + text[last + 1 :], 1
    return _SINGLE_QUOTED.subn(_PLACEHOLDER, text)

"""Runs the Python blocks of each documentation page inside its own `capture()`."""

from __future__ import annotations

from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from connectsoft_obs.testing import capture

_active_captures: list[Any] = []


def _start_capture(_: dict[str, Any]) -> None:
    context = capture()
    _active_captures.append(context)
    context.__enter__()


def _end_capture(_: dict[str, Any]) -> None:
    _active_captures.pop().__exit__(None, None, None)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    setup=_start_capture,
    teardown=_end_capture,
).pytest()

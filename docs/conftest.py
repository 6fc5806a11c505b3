"""Runs every Python block of every page, in a capture of its own."""

from __future__ import annotations

from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from connectsoft_obs.testing import capture

_open: list[Any] = []


def _begin(_: dict[str, Any]) -> None:
    context = capture()
    _open.append(context)
    context.__enter__()


def _end(_: dict[str, Any]) -> None:
    _open.pop().__exit__(None, None, None)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    setup=_begin,
    teardown=_end,
).pytest()

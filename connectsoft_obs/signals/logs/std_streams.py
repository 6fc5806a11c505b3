"""Which outputs would show a line a second time: standard output and standard error, however they are reached."""

from __future__ import annotations

import logging
import sys
from typing import Any


def is_standard(file: Any) -> bool:
    """Whether a file object is standard output or standard error."""
    standard = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    if any(file is one or (file is not None and file is getattr(one, "buffer", None)) for one in standard):
        return True
    try:
        return file.fileno() in (1, 2)
    except Exception:  # noqa: BLE001  whatever somebody's file object does
        return False


def writes_to_terminal(handler: logging.Handler) -> bool:
    """Whether a handler writes to standard output or error; a file that it names itself does not count."""
    if isinstance(handler, logging.FileHandler):
        return False
    stream = getattr(handler, "stream", None)
    if stream is None:  # rich.logging.RichHandler
        stream = getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and is_standard(stream)

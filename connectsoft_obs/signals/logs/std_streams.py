"""Recognises log handlers and files that write to standard output or standard error, and streams to write bytes to."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any


def is_standard_stream(file: Any) -> bool:
    """Whether a file object is standard output or standard error."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    if any(file is stream or (file is not None and file is getattr(stream, "buffer", None)) for stream in streams):
        return True
    try:
        return file.fileno() in (1, 2)
    except Exception:  # noqa: BLE001  a file object of the application can raise anything
        return False


def writes_to_terminal(handler: logging.Handler) -> bool:
    """Whether a handler writes to standard output or error. A FileHandler does not, whatever its path is."""
    if isinstance(handler, logging.FileHandler):
        return False
    stream = getattr(handler, "stream", None)
    if stream is None:  # rich.logging.RichHandler
        stream = getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and is_standard_stream(stream)


def ordinary_descriptor(stream: Any) -> int | None:
    """Descriptor of an ordinary text file, pipe or terminal, which takes bytes; None for any other stream.

    An object of another class may frame, colour or capture what is written to it, and has to get it by its `write`.
    """
    if type(stream) is not io.TextIOWrapper:
        return None
    try:
        raw = stream.buffer
        if type(raw) in (io.BufferedWriter, io.BufferedRandom):
            raw = raw.raw
        return stream.fileno() if type(raw) is io.FileIO else None
    except (AttributeError, OSError, ValueError):  # detached or closed
        return None

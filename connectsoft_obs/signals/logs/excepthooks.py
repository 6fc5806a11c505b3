"""What nobody caught: exceptions that end the process, a thread or a task, and warnings. Each becomes one line.

What somebody else put in these places before us is called after us; only Python's own last words, which would say the
same again on standard error, are not.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TextIO

from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.logs.exceptions import logged_by_loop_handler
from connectsoft_obs.signals.logs.levels import CRITICAL, ERROR, WARNING
from connectsoft_obs.signals.logs.logger import Current
from connectsoft_obs.vocabulary import ASYNCIO_SOURCE, CODE_FILE, CODE_LINE, THREAD_NAME

_FLUSH: Final = 2.0
"""Longest time in seconds that the end of a process waits for its last line to be written."""

_PYTHON_WARNS: Final = warnings.showwarning


class ExceptHooks:
    """The hooks of one process. Installing them again changes nothing.

    Args:
        stream: gives the stream in force.
    """

    def __init__(self, stream: Current) -> None:
        self._stream = stream
        self._exception: Any = None
        self._thread: Any = None

    def install(self) -> None:
        """Take the places of `sys.excepthook`, `threading.excepthook` and, where it is Python's, `showwarning`."""
        if sys.excepthook != self._of_process:
            self._exception, sys.excepthook = sys.excepthook, self._of_process
        if threading.excepthook != self._of_thread:
            self._thread, threading.excepthook = threading.excepthook, self._of_thread
        if warnings.showwarning is _PYTHON_WARNS:  # one that somebody set stays: logging's own joins the stream anyway
            warnings.showwarning = self._warning

    def remove(self) -> None:
        """Put back what was there, where nobody has come after us."""
        if sys.excepthook == self._of_process:
            sys.excepthook = self._exception
        if threading.excepthook == self._of_thread:
            threading.excepthook = self._thread
        if warnings.showwarning == self._warning:
            warnings.showwarning = _PYTHON_WARNS

    def _of_process(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before = self._exception or sys.__excepthook__
        if issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)
            return
        written = False
        try:
            stream = self._stream()
            stream.emit(CRITICAL, "uncaught exception; the process ends", None, "python", error.with_traceback(trace))
            written = stream.flush(_FLUSH)
        finally:
            if before is not sys.__excepthook__ or not written:
                before(kind, error, trace)

    def _of_thread(self, args: Any) -> None:
        before = self._thread or threading.__excepthook__
        if args.exc_type is not SystemExit and args.exc_value is not None:
            name = args.thread.name if args.thread is not None else "unknown"
            self._stream().emit(ERROR, "uncaught exception in a thread", {THREAD_NAME: name}, "python", args.exc_value)
            if before is threading.__excepthook__:
                return
        before(args)

    def _warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            _PYTHON_WARNS(message, category, filename, lineno, file, line)
            return
        fields = {CODE_FILE: filename, CODE_LINE: lineno}
        self._stream().emit(WARNING, f"{category.__name__}: {safe_str(message, str)}", fields, "py.warnings")


class _LoopHandler:
    """An event loop's exception handler: our line, then the handler that was there."""

    def __init__(self, stream: Current, before: Callable[..., Any] | None) -> None:
        self._stream = stream
        self._before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        fields: dict[str, Any] = {}
        for key in ("task", "future", "handle"):
            if (thing := context.get(key)) is not None:
                name = getattr(thing, "get_name", None)
                fields[ASYNCIO_SOURCE] = f"{key} {name() if name is not None else safe_str(thing)}"
                break
        message = str(context.get("message") or "unhandled exception in the event loop")
        self._stream().emit(ERROR, message, fields, "asyncio", error if isinstance(error, BaseException) else None)
        if self._before is not None:
            token = logged_by_loop_handler.set(True)
            try:
                self._before(loop, context)
            finally:
                logged_by_loop_handler.reset(token)


def watch_loop(loop: asyncio.AbstractEventLoop, stream: Current) -> None:
    """Let what a loop cannot hand to anybody be one line, and then what its handler makes of it."""
    before = loop.get_exception_handler()
    if not isinstance(before, _LoopHandler):
        loop.set_exception_handler(_LoopHandler(stream, before))

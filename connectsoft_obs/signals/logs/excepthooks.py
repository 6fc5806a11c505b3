"""Hooks for uncaught exceptions of the process, threads and asyncio tasks, and for warnings: one log record each.

Hooks that were installed before are called afterwards. Python's default hooks are not called, because they would print
the same traceback to standard error again.
"""

from __future__ import annotations

import _warnings
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
from connectsoft_obs.signals.logs.logger import GetPipeline
from connectsoft_obs.vocabulary import ASYNCIO_SOURCE, CODE_FILE, CODE_LINE, THREAD_NAME

_FLUSH_TIMEOUT: Final = 2.0
"""Seconds that a process that exits by an uncaught exception waits until the record is written."""

_DEFAULT_SHOWWARNING: Final = warnings.showwarning


class ExceptHooks:
    """The hooks of one process. Installing them twice has no further effect.

    Args:
        get_pipeline: returns the current log pipeline.
    """

    def __init__(self, get_pipeline: GetPipeline) -> None:
        self._get_pipeline = get_pipeline
        self._is_installed = False
        self._previous_excepthook: Any = None
        self._previous_thread_hook: Any = None

    def install(self) -> None:
        """Set `sys.excepthook`, `threading.excepthook` and, unless the application replaced it, `showwarning`.

        A hook that was set over these later calls them, so it stays; they are set again only if the default was restored.
        Inside a `warnings.catch_warnings()` block nothing is changed: the block may record warnings, and undoes changes.
        """
        is_first, self._is_installed = not self._is_installed, True
        if is_first or sys.excepthook is sys.__excepthook__:
            self._previous_excepthook, sys.excepthook = sys.excepthook, self._handle_exception
        if is_first or threading.excepthook is threading.__excepthook__:
            self._previous_thread_hook, threading.excepthook = threading.excepthook, self._handle_thread_exception
        # logging.captureWarnings() reaches the pipeline by its logger
        if warnings.showwarning is _DEFAULT_SHOWWARNING and not _is_catching_warnings():
            warnings.showwarning = self._handle_warning

    def _handle_exception(
        self, exc_type: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        previous_hook = self._previous_excepthook or sys.__excepthook__
        if issubclass(exc_type, KeyboardInterrupt):
            previous_hook(exc_type, error, traceback)
            return
        is_written = False
        try:
            pipeline = self._get_pipeline()
            pipeline.emit(
                CRITICAL, "uncaught exception; the process ends", None, "python", error.with_traceback(traceback)
            )
            is_written = pipeline.flush(_FLUSH_TIMEOUT)
        finally:
            if previous_hook is not sys.__excepthook__ or not is_written:
                previous_hook(exc_type, error, traceback)

    def _handle_thread_exception(self, args: Any) -> None:
        previous_hook = self._previous_thread_hook or threading.__excepthook__
        if args.exc_type is not SystemExit and args.exc_value is not None:
            fields = {THREAD_NAME: args.thread.name if args.thread is not None else "unknown"}
            self._get_pipeline().emit(ERROR, "uncaught exception in a thread", fields, "python", args.exc_value)
            if previous_hook is threading.__excepthook__:
                return
        previous_hook(args)

    def _handle_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            _DEFAULT_SHOWWARNING(message, category, filename, lineno, file, line)
            return
        fields = {CODE_FILE: filename, CODE_LINE: lineno}
        self._get_pipeline().emit(WARNING, f"{category.__name__}: {safe_str(message, str)}", fields, "py.warnings")


def _is_catching_warnings() -> bool:
    """Return whether a `warnings.catch_warnings()` block is active. Its list of filters is a copy of the process's."""
    return warnings.filters is not getattr(_warnings, "filters", warnings.filters)


class _LoopExceptionHandler:
    """Exception handler of an event loop: logs a record, then calls the previous handler."""

    def __init__(self, get_pipeline: GetPipeline, previous_handler: Callable[..., Any] | None) -> None:
        self._get_pipeline = get_pipeline
        self._previous_handler = previous_handler

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        fields: dict[str, Any] = {}
        for key in ("task", "future", "handle"):
            if (source := context.get(key)) is not None:
                get_name = getattr(source, "get_name", None)
                fields[ASYNCIO_SOURCE] = f"{key} {get_name() if get_name is not None else safe_str(source)}"
                break
        message = str(context.get("message") or "unhandled exception in the event loop")
        exception = error if isinstance(error, BaseException) else None
        self._get_pipeline().emit(ERROR, message, fields, "asyncio", exception)
        if self._previous_handler is not None:
            token = logged_by_loop_handler.set(True)
            try:
                self._previous_handler(loop, context)
            finally:
                logged_by_loop_handler.reset(token)


def watch_loop(loop: asyncio.AbstractEventLoop, get_pipeline: GetPipeline) -> None:
    """Log unhandled exceptions of an event loop; its previous exception handler is called afterwards."""
    previous_handler = loop.get_exception_handler()
    if not isinstance(previous_handler, _LoopExceptionHandler):
        loop.set_exception_handler(_LoopExceptionHandler(get_pipeline, previous_handler))

"""Prints the traces of this process as indented trees, for developers: `OTEL_TRACES_EXPORTER=console` on a terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.process import terminal
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.process.terminal import Segment, escape_control
from connectsoft_obs.vocabulary import ERROR_TYPE, HTTP_STATUS, SERVER_ADDRESS

_MAX_TRACES: Final = 1000
_MAX_SPANS: Final = 500
"""Maximum number of spans of a tree; further spans are counted."""
_DURATION_COLUMNS: Final = 9
_BRANCHES: Final = {False: ("├─ ", "│  "), True: ("└─ ", "   ")}


class _OpenTrace:
    """Spans of one trace in this process since its last tree was printed."""

    def __init__(self) -> None:
        self.open_spans = 0
        self.open_roots = 0
        self.ended: list[ReadableSpan] = []
        self.omitted = 0


class TraceTreePrinter(SpanProcessor):
    """Prints a tree when the last local root of a trace has ended, and spans that end later when all of them have.

    A local root is a span without parent in this process: of a request, a message or a run. Thread-safe and fork-safe;
    no method raises.

    Args:
        redact: returns a span without secrets.
    """

    def __init__(self, redact: Callable[[ReadableSpan], ReadableSpan]) -> None:
        self._redact = redact
        self._has_colours = terminal.has_colours(sys.stderr, os.environ)
        self.after_fork_in_child()
        register_fork_handler(self)

    def after_fork_in_child(self) -> None:
        """In a forked child: it prints its own spans only."""
        self._lock = threading.Lock()
        self._traces: dict[int, _OpenTrace] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Count an open span."""
        with self._lock:
            trace = self._traces.setdefault(span.get_span_context().trace_id, _OpenTrace())
            trace.open_spans += 1
            trace.open_roots += _is_local_root(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep an ended span, or print the tree that it completes."""
        try:
            context = span.get_span_context()
            if context is None or not context.trace_flags.sampled:
                return
            is_root = _is_local_root(span)
            with self._lock:
                completed = self._add(context.trace_id, span, is_root)
            if completed is not None:
                self._print(context.trace_id, completed)
        except Exception as error:  # noqa: BLE001  a closed standard error; must not raise into the application
            record_internal_error("tracing.console", error)

    def _add(self, trace_id: int, span: ReadableSpan, is_root: bool) -> _OpenTrace | None:
        """Add a span to its trace. Return the spans to print if the trace is complete for now, else None."""
        trace = self._traces.setdefault(trace_id, _OpenTrace())
        is_counted = trace.open_spans > 0  # False for a span of another provider, which reports only ended spans
        trace.open_spans -= is_counted
        trace.open_roots -= is_counted and is_root
        if len(trace.ended) < _MAX_SPANS or is_root:
            trace.ended.append(span)
        else:
            trace.omitted += 1
        if trace.open_spans == 0 if is_counted else is_root:
            return self._traces.pop(trace_id)
        if is_root and trace.open_roots == 0:
            completed = _OpenTrace()
            completed.ended, completed.omitted = trace.ended, trace.omitted
            trace.ended, trace.omitted = [], 0
            return completed
        if len(self._traces) > _MAX_TRACES:  # spans that are never ended
            self._traces.pop(next(iter(self._traces)))
        return None

    def _print(self, trace_id: int, trace: _OpenTrace) -> None:
        rows = [[(terminal.DIM, f"trace {trace_id:032x}")], *_tree_rows([self._redact(span) for span in trace.ended])]
        if trace.omitted:
            rows.append([(terminal.DIM, f"{'':{_DURATION_COLUMNS}}  … {trace.omitted} more spans")])
        columns = terminal.columns(sys.stderr)
        lines = []
        for row in rows:
            segments = terminal.elide_segments(row, columns)
            lines.append(
                "".join(terminal.paint(code, text) if code and self._has_colours else text for code, text in segments)
            )
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()


def _is_local_root(span: ReadableSpan) -> bool:
    parent = span.parent
    return parent is None or parent.is_remote


def _tree_rows(spans: list[ReadableSpan]) -> Iterator[list[Segment]]:
    """One row for each span: duration, name below its parent, and status."""
    ids = {_span_id(span.get_span_context()) for span in spans}
    children: defaultdict[int, list[ReadableSpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start_time or 0, reverse=True):
        parent_id = _span_id(span.parent)
        children[parent_id if parent_id in ids else 0].append(span)
    pending = [(span, "", "") for span in children[0]]
    while pending:
        span, branch, margin = pending.pop()
        yield _span_row(span, branch)
        below = children[_span_id(span.get_span_context())]
        for number, child in enumerate(below):  # the last one started first
            own, deeper = _BRANCHES[number == 0]
            pending.append((child, margin + own, margin + deeper))


def _span_row(span: ReadableSpan, branch: str) -> list[Segment]:
    attributes = span.attributes or {}
    seconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    is_error = span.status.status_code is StatusCode.ERROR
    parts: list[Any] = [attributes.get(HTTP_STATUS), *(["ERROR", attributes.get(ERROR_TYPE)] if is_error else [])]
    result = "".join(f" {escape_control(part)}" for part in dict.fromkeys(parts) if part)
    description = f" {escape_control(span.status.description)}" if is_error and span.status.description else ""
    server = attributes.get(SERVER_ADDRESS) if span.kind in (SpanKind.CLIENT, SpanKind.PRODUCER) else None
    return [
        (terminal.DIM, f"{terminal.format_duration(seconds):>{_DURATION_COLUMNS}}  {branch}"),
        (terminal.BOLD, escape_control(span.name)),
        (terminal.RED if is_error else terminal.GREEN, result),
        (terminal.DIM, (f" {escape_control(server)}" if server else "") + description),
    ]


def _span_id(context: SpanContext | None) -> int:
    return 0 if context is None else context.span_id

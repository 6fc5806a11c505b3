"""`OTEL_TRACES_EXPORTER=console` on a terminal prints each trace as an indented tree; elsewhere JSON objects."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from support.process import wait_for
from support.scripts import run_script
from support.terminal import TerminalService

from connectsoft_obs.process import terminal
from connectsoft_obs.signals.tracing.trace_tree import TraceTreePrinter

CONSOLE = {"OTEL_TRACES_EXPORTER": "console", "CONNECTSOFT_OBS_ENVIRONMENT": "development"}


def test_service_on_a_terminal_prints_trees() -> None:
    with TerminalService("terminal_service:app", 60, CONSOLE) as service:
        service.wait_until_live()
        for path in ("/orders/42", "/failing/7"):
            httpx.get(service.url + path, timeout=20)
        wait_for(lambda: "mail" in service.output and "LookupError:" in service.output, 20)
        service.stop()
    rows = [row for row in service.rows if re.match(r"trace [0-9a-f]{32}$| +\d+(\.\d+)? m?s  ", row)]
    shown = [re.sub(r"^ +\S+ m?s  ", "", row) for row in rows if not row.startswith("trace ")]
    assert shown[:3] == ["GET /orders/{number} 200", "├─ price", "│  └─ discount\\x1b[2J"]
    assert re.fullmatch(r"└─ GET ERROR ConnectError 127\.0\.0\.1 .*…", shown[3])
    assert shown.index("mail") > 3, "a span that ends after its local root has its own tree"
    assert "GET /failing/{number} 500 ERROR LookupError" in shown
    assert len([row for row in rows if row.startswith("trace ")]) == 3
    assert max(map(terminal.display_width, service.rows)) <= 60
    assert "token=abc123" not in service.output
    assert "\x1b[2J" not in service.output


@pytest.mark.parametrize(("profile", "is_tree"), [("console", True), ("otel", False), ("", False)])
def test_format_follows_the_log_format(profile: str, is_tree: bool) -> None:
    code = """
import connectsoft_obs as obs
telemetry = obs.configure(service="shop")
with obs.operation("import"):
    with obs.span("read"): pass
"""
    result = run_script(code, env={**CONSOLE, "CONNECTSOFT_OBS_LOG_PROFILE": profile})
    assert result.exit_code == 0
    if is_tree:
        assert re.search(r"^ +\S+ ms  run import\n +\S+ ms  └─ read$", result.stderr, re.MULTILINE), result.stderr
    else:
        read, run = (json.loads(part) for part in re.split(r"(?<=\n})\n", result.stderr.strip()))
        assert (read["name"], run["name"]) == ("read", "run import")
    assert "\x1b" not in result.stderr


def test_trees_contain_no_secrets() -> None:
    code = """
import connectsoft_obs as obs
telemetry = obs.configure(service="shop")
with obs.operation("import"):
    try:
        with obs.span("read ?token=s3cret"):
            raise ValueError("password=s3cret")
    except ValueError:
        pass
"""
    result = run_script(code, env={**CONSOLE, "CONNECTSOFT_OBS_LOG_PROFILE": "console"})
    assert "read ?token=REDACTED ERROR ValueError password=REDACTED" in result.stderr
    assert "s3cret" not in result.stderr


@pytest.fixture
def tracer() -> Iterator[trace.Tracer]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(TraceTreePrinter(lambda span: span))
    yield provider.get_tracer("test")
    provider.shutdown()


def printed_names(output: str) -> list[str]:
    return [re.sub(r"^ +\S+ m?s  ", "", row) for row in output.splitlines() if not row.startswith("trace ")]


def test_children_are_in_the_order_of_their_start(tracer: trace.Tracer, capsys: pytest.CaptureFixture[str]) -> None:
    with tracer.start_as_current_span("root"):
        first, second = tracer.start_span("first"), tracer.start_span("second")
        second.end()
        with trace.use_span(first), tracer.start_as_current_span("inner"):
            pass
        first.end()
    assert printed_names(capsys.readouterr().err) == ["root", "├─ first", "│  └─ inner", "└─ second"]


def test_late_spans_are_one_tree(tracer: trace.Tracer, capsys: pytest.CaptureFixture[str]) -> None:
    with tracer.start_as_current_span("root"):
        late = tracer.start_span("late")
        with trace.use_span(late):
            child = tracer.start_span("child")
    assert printed_names(capsys.readouterr().err) == ["root"]
    child.end()
    assert capsys.readouterr().err == ""
    late.end()
    assert printed_names(capsys.readouterr().err) == ["late", "└─ child"]


def test_large_and_deep_traces_are_bounded(tracer: trace.Tracer, capsys: pytest.CaptureFixture[str]) -> None:
    with tracer.start_as_current_span("root"):
        for _ in range(2000):
            tracer.start_span("child").end()
    rows = capsys.readouterr().err.splitlines()
    assert len(rows) == 503
    assert rows[-1].endswith("… 1500 more spans")
    spans = [tracer.start_span("root")]
    for _ in range(300):
        spans.append(tracer.start_span("deep", trace.set_span_in_context(spans[-1])))
    for span in reversed(spans):
        span.end()
    assert len(capsys.readouterr().err.splitlines()) == 302


def test_spans_of_another_provider_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    class EndOnly(SpanProcessor):
        on_end = TraceTreePrinter(lambda span: span).on_end

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(EndOnly())
    with (
        provider.get_tracer("test").start_as_current_span("root"),
        provider.get_tracer("test").start_as_current_span("a"),
    ):
        pass
    assert printed_names(capsys.readouterr().err) == ["root", "└─ a"]


def test_unended_spans_are_not_kept(tracer: trace.Tracer, capsys: pytest.CaptureFixture[str]) -> None:
    printer = TraceTreePrinter(lambda span: span)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(printer)
    for _ in range(3000):
        root = provider.get_tracer("test").start_span("root")
        with trace.use_span(root):
            provider.get_tracer("test").start_span("child").end()
    assert len(printer._traces) <= 1001


def test_traces_of_threads_are_separate(tracer: trace.Tracer, capsys: pytest.CaptureFixture[str]) -> None:
    def work(name: str) -> None:
        for _ in range(50):
            with tracer.start_as_current_span(name), tracer.start_as_current_span(f"{name}-child"):
                pass

    threads = [threading.Thread(target=work, args=(f"root{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    output = capsys.readouterr().err
    trees = re.findall(r"trace [0-9a-f]{32}\n.*(root\d)\n.*└─ (root\d)-child\n", output)
    assert len(trees) == 200
    assert all(root == child for root, child in trees)


def test_closed_standard_error_raises_nothing(tracer: trace.Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with tracer.start_as_current_span("root"):
        pass

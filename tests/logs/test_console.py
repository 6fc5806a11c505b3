"""Output on a terminal: nothing wraps, access lines are short, stack traces are folded, data sends no escape sequences."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import httpx
import pytest
from support.log_format_cases import CASES, LogRecorder
from support.process import wait_for
from support.terminal import TerminalProcess, TerminalService

from connectsoft_obs.process import terminal
from connectsoft_obs.signals.logs import pipeline
from connectsoft_obs.signals.logs.traceback_folding import fold_frames

DEVELOPMENT = {"CONNECTSOFT_OBS_ENVIRONMENT": "development"}
STYLE = re.compile(r"\x1b\[[0-9]*m")


class Screen(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def recorder(monkeypatch: pytest.MonkeyPatch, columns: int | None, **settings: Any) -> LogRecorder:
    """A log pipeline with the console format; its output is a terminal unless `columns` is None."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    return LogRecorder(
        "console", stream=Screen() if columns is not None else io.StringIO(), log_level="debug", **settings
    )


def test_service_on_a_terminal_of_100_columns() -> None:
    with TerminalService("terminal_service:app", 100, {**DEVELOPMENT, "LOG_LEVEL": "info"}) as service:
        service.wait_until_live()
        for path in (
            "/orders/42?token=abc",
            "/failing/7",
            "/nothing/%1b[2J%07",
            f"/nowhere/{'x' * 300}",
            "/failing/seven",
        ):
            httpx.get(service.url + path, timeout=20)
        wait_for(lambda: "/failing/seven" in service.output, 20)
        service.stop()
    rows = service.rows
    assert max(map(terminal.display_width, rows)) <= 100
    assert "removed other log handlers" not in service.output
    assert any(
        re.search(r"INFO  GET /orders/42 200 \d+(\.\d+)? m?s +order_id=42 .* [0-9a-f]{8}$", row) for row in rows
    ), rows
    assert "\x1b[2m order_id=42\x1b[0m" in service.output, "other fields are dimmed"
    assert any(re.search(r"INFO  GET /failing/seven 422 ", row) for row in rows), rows
    assert any(re.search(r"GET /nowhere/x+… 404 \d.* [0-9a-f]{8}$", row) for row in rows), rows
    assert any(re.fullmatch(r"      … \d+ frames of .*starlette, fastapi", row) for row in rows), rows
    assert any("GET /nothing/\\x1b[2J\\x07 404 " in row for row in rows), rows
    text = "\n".join(rows)
    assert '  File "terminal_service.py", line' in text, "paths are relative to the working directory"
    assert "in failing" in text
    assert "in read_database" in text
    assert "site-packages" not in text
    assert "no such table: orders" in text, "the cause is printed too"
    assert len(re.findall("x{40,}", text)) >= 3, "the exception message is complete, on several rows"
    assert "token=abc" not in text
    assert re.findall(r"\x1b(?!\[[0-9]*m)", service.output) == []
    assert "\x07" not in service.output
    assert not any(row.startswith("forged") for row in rows)


def test_later_width_of_the_terminal_applies() -> None:
    code = """
import fcntl, struct, sys, termios
import connectsoft_obs as obs
log = obs.get_logger("shop")
for columns in (60, 100, 0):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    log.info("priced", note="n" * 300)
"""
    with TerminalProcess([sys.executable, "-c", code], 200) as process:
        assert process.wait() == 0
    widths = [len(row) for row in process.rows if "priced" in row]
    assert widths == [60, 100, 80], "80 columns if the width is unknown"


@pytest.mark.parametrize("columns", [40, 41, 60, 99, 100, 170])
def test_no_row_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "time_ns", lambda: 1795508700_123456789)
    logs = recorder(monkeypatch, columns)
    for log_case in CASES.values():
        log_case(logs)
    wide = "注文が確定しました" * 30
    for message in ("e\u0301" * 300, wide, "word " * 100, "x" * 500, "a\nb\x1b[2J", ""):
        for level in ("info", "warning"):
            getattr(logs.log, level)(
                message, **{wide: wide, "a\x1b[2J": "\x1b[2J", "empty": "", "list": [wide, {"a": 1}]}
            )
    try:
        raise ExceptionGroup(wide, [ValueError(wide), KeyError("x" * 400)])
    except ExceptionGroup:
        logs.log.exception(wide)
    rows = STYLE.sub("", logs.output.getvalue()).splitlines()
    assert len(rows) > 50
    assert max(map(terminal.display_width, rows)) <= columns
    assert "\x1b" not in "".join(rows)


@pytest.mark.parametrize("columns", [1, 5, 20])
def test_very_narrow_terminal_loses_no_message(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = recorder(monkeypatch, columns)
    logs.log.info("order " * 20, total=1)
    for log_case in CASES.values():
        log_case(logs)
    assert STYLE.sub("", logs.output.getvalue()).count("order ") >= 15
    assert logs.counted_errors == []


def test_output_to_a_file_is_complete_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = recorder(monkeypatch, None)
    logs.log.info("priced", note="n" * 500)
    assert "note=" + "n" * 500 in logs.output.getvalue()
    assert "\x1b" not in logs.output.getvalue()


@pytest.mark.parametrize(
    ("variables", "is_terminal", "is_coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours_follow_the_common_variables(
    variables: dict[str, str], is_terminal: bool, is_coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = recorder(monkeypatch, 100 if is_terminal else None)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    logs = LogRecorder("console", stream=logs.output)
    logs.log.info("priced", total=1)
    logs.log_access(404, "rejected", 20)
    assert ("\x1b" in logs.output.getvalue()) is is_coloured


def test_messages_and_fields_of_warnings_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = recorder(monkeypatch, 60)
    words = " ".join(f"word{number}" for number in range(40))
    logs.log.info(words)
    logs.log.warning("refused", reason=words)
    text = " ".join(STYLE.sub("", logs.output.getvalue()).split())
    for number in range(40):
        assert len(re.findall(rf"\bword{number}\b", text)) == 2
    logs.log.info("priced", reason=words)
    assert STYLE.sub("", logs.output.getvalue()).splitlines()[-1].endswith("…")


STACK = """Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/starlette/routing.py", line 1, in app
    await f()
  File "/venv/lib/python3.11/site-packages/anyio/to_thread.py", line 2, in run
    return g()
           ^^^
  [Previous line repeated 3 more times]
  File "/srv/shop/app.py", line 3, in order
    read()
  File "/venv/lib/python3.11/site-packages/sqlalchemy/engine.py", line 4, in execute
    a()
  File "/venv/lib/python3.11/site-packages/sqlalchemy/base.py", line 5, in error
    raise b
ValueError: first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/starlette/routing.py", line 6, in only
    library()
KeyError: 'second'
"""


def test_frames_of_libraries_are_folded() -> None:
    assert [row.text for row in fold_frames(STACK, "/srv/shop")] == [
        "Traceback (most recent call last):",
        "  … 2 frames of starlette, anyio",
        '  File "app.py", line 3, in order',
        "    read()",
        "  … 1 frame of sqlalchemy",
        '  File "sqlalchemy/base.py", line 5, in error',
        "    raise b",
        "ValueError: first",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "starlette/routing.py", line 6, in only',
        "    library()",
        "KeyError: 'second'",
    ]
    complete = [row.text for row in fold_frames(STACK, fold=False)]
    assert len(complete) == len(STACK.splitlines())
    assert '  File "starlette/routing.py", line 1, in app' in complete


def test_stack_trace_without_frames_of_the_application_is_complete() -> None:
    package = "/venv/lib/python3.12/site-packages"
    frames = [f'  File "{package}/starlette/routing.py", line {number}, in app' for number in range(3)]
    stack = "\n".join(["Traceback (most recent call last):", *frames, "KeyError: 'missing'"])
    rows = [row.text for row in fold_frames(stack, "/srv/shop")]
    assert rows == [line.replace(f"{package}/", "") for line in stack.splitlines()]


def test_frames_in_exception_groups_are_folded() -> None:
    margin = "    | "
    stack = "".join(f"{margin}{line}\n" for line in STACK.splitlines()[:15])
    rows = [row.text for row in fold_frames(stack, "/srv/shop")]
    assert f"{margin}  … 2 frames of starlette, anyio" in rows
    assert f'{margin}  File "app.py", line 3, in order' in rows
    assert f"{margin}ValueError: first" in rows


def test_debug_level_shows_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_in_a_library() -> str:
        try:
            re.compile("(")
        except re.error as error:
            try:
                raise ValueError("no pattern") from error
            except ValueError:
                logs.log.exception("failed")
        return STYLE.sub("", logs.output.getvalue())

    logs = recorder(monkeypatch, 100)
    assert "… " not in failing_in_a_library()
    logs = LogRecorder("console", stream=Screen(), log_level="info")
    assert re.search(r"… \d+ frames of re", failing_in_a_library())


def test_stack_of_a_record_is_folded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = recorder(monkeypatch, 100)
    logs = LogRecorder("console", stream=logs.output, log_level="info")
    logs.log.warning("event loop blocked", **{"code.stacktrace": STACK.partition("ValueError")[0], "reason": "a\nb c"})
    rows = STYLE.sub("", logs.output.getvalue()).splitlines()
    assert rows[0].endswith("reason='a\\nb c' orders")
    assert "      … 2 frames of starlette, anyio" in rows
    assert "code.stacktrace" not in logs.output.getvalue()

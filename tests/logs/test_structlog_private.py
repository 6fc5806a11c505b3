"""The undocumented names of structlog that the package uses exist in the installed version, in the expected form.

If a test fails after an upgrade of structlog, adapt connectsoft_obs/signals/logs/structlog_private.py.
"""

from __future__ import annotations

import ast
import io
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import structlog

import connectsoft_obs
from connectsoft_obs.signals.logs import structlog_private

INSTALLED = f"structlog {version('structlog')}"
PACKAGE = Path(connectsoft_obs.__file__).parent


@pytest.fixture(autouse=True)
def _reset_context_variables() -> Iterator[None]:
    yield
    structlog.contextvars.clear_contextvars()


def test_context_vars_is_a_mapping_that_bind_contextvars_fills() -> None:
    variables = structlog_private.CONTEXT_VARS
    assert isinstance(variables, dict), INSTALLED
    assert variables is structlog.contextvars._CONTEXT_VARS, INSTALLED
    structlog.contextvars.bind_contextvars(some_key=1)
    assert any("some_key" in name for name in variables), INSTALLED


@pytest.mark.parametrize("create_logger", [structlog.PrintLogger, structlog.WriteLogger, structlog.BytesLogger])
def test_loggers_of_structlog_have_their_file(create_logger: Any) -> None:
    file = io.BytesIO() if create_logger is structlog.BytesLogger else io.StringIO()
    assert structlog_private.output_file(create_logger(file)) is file, INSTALLED


def test_formatter_sets_the_expected_record_attributes_and_event_keys() -> None:
    _, keywords = structlog.stdlib.ProcessorFormatter.wrap_for_formatter(logging.getLogger(), "info", {"event": "x"})
    assert keywords["extra"].keys() == structlog_private.FORMATTER_RECORD_ATTRIBUTES, INSTALLED
    event_keys: set[str] = set()

    def render(_logger: Any, _method: str, event: Any) -> str:
        event_keys.update(event)
        return "rendered"

    formatter = structlog.stdlib.ProcessorFormatter(processors=[render])
    formatter.format(logging.makeLogRecord({"msg": "x"}))
    assert event_keys - {"event"} == structlog_private.FORMATTER_EVENT_KEYS, INSTALLED


def test_get_config_returns_the_list_of_processors_that_loggers_use() -> None:
    processors: list[Any] = [structlog.processors.JSONRenderer()]
    structlog.configure(processors=processors)
    try:
        logger = structlog.get_logger().bind()
        assert structlog.get_config()["processors"] is processors, INSTALLED
        assert logger._processors is processors, INSTALLED
    finally:
        structlog.reset_defaults()


def test_private_names_of_structlog_are_used_in_one_module_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "structlog_private.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                assert not ast.unparse(node.value).startswith("structlog"), f"{path}:{node.lineno}"
            if isinstance(node, ast.Constant):
                assert node.value not in ("_CONTEXT_VARS", "_file", "_from_structlog"), f"{path}:{node.lineno}"

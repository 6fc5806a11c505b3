"""structlog without configuration, configured before or after this package, and its test helpers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from support.scripts import run_script

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

ORDER = 'log.info("order placed", total=99.5)'


@pytest.fixture(autouse=True)
def _unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_unconfigured_loggers_write_to_the_pipeline() -> None:
    with capture() as seen:
        log = structlog.get_logger("orders", shop="berlin")
        log.bind(customer=7).info("order %s placed", 42, total=99.5)
    line = seen.log("order 42 placed")
    assert (line["logger"], line["shop"], line["customer"], line["total"]) == ("orders", "berlin", 7, 99.5)


def test_context_variables_of_structlog_are_on_the_lines() -> None:
    with capture() as seen:
        structlog.contextvars.bind_contextvars(request_number=9)
        structlog.get_logger().info("inside")
        structlog.contextvars.clear_contextvars()
        structlog.get_logger().info("outside")
    assert seen.log("inside")["request_number"] == 9
    assert "request_number" not in seen.log("outside")


def test_every_form_of_exc_info_gives_exception_fields() -> None:
    with capture() as seen:
        log = structlog.get_logger()
        try:
            raise KeyError("missing")
        except KeyError as error:
            caught_error = error
            log.exception("one")
            log.error("two", exc_info=True)  # noqa: G201
        log.error("three", exc_info=caught_error)
        log.error("four", exc_info=(KeyError, caught_error, None))
        log.error("five", exc_info=False)
    lines = {line["message"]: line for line in seen.logs}
    for message in ("one", "two", "three", "four"):
        assert lines[message]["exception.type"] == "KeyError"
        assert lines[message]["exception.stacktrace"].endswith("KeyError: 'missing'\n")
        assert "exc_info" not in lines[message]
    assert "exception.type" not in lines["five"]


def test_capture_logs_of_structlog_works() -> None:
    with capture() as seen:
        with structlog.testing.capture_logs() as entries:
            structlog.get_logger().warning("seen by structlog", number=1)
        structlog.get_logger().warning("seen by the pipeline")
    assert entries == [{"event": "seen by structlog", "number": 1, "log_level": "warning"}]
    assert [line["message"] for line in seen.logs] == ["seen by the pipeline"]


CONFIGURATIONS = {
    "structlog's documentation": """
structlog.configure(processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level,
    structlog.processors.StackInfoRenderer(), structlog.dev.set_exc_info,
    structlog.processors.TimeStamper(fmt="iso"), add_field, structlog.processors.JSONRenderer()],
    wrapper_class=structlog.make_filtering_bound_logger("info"), logger_factory=structlog.PrintLoggerFactory(),
    cache_logger_on_first_use=True)
""",
    "a console renderer and a bytes logger": """
structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(), add_field,
    structlog.dev.ConsoleRenderer()], logger_factory=lambda *_: structlog.PrintLogger(),
    wrapper_class=structlog.make_filtering_bound_logger(20))
""",
    "standard library, rendered": """
structlog.configure(processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level, structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso"), structlog.processors.format_exc_info, add_field,
    structlog.processors.JSONRenderer()],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
""",
    "standard library, with a formatter": """
structlog.configure(processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_log_level, add_field,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer()))
logging.getLogger().addHandler(handler); logging.getLogger().setLevel("INFO")
""",
    "standard library, as keywords": """
structlog.configure(processors=[structlog.stdlib.filter_by_level, add_field, structlog.stdlib.render_to_log_kwargs],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
logging.basicConfig(stream=sys.stderr, level=logging.INFO)
""",
}

PROGRAM = """
import logging, sys, structlog
def add_field(logger, method, event): return {{**event, "custom": True}}
early = structlog.get_logger("early")
{before}
early.bind()
{first}
import connectsoft_obs as obs
obs.configure(service="x")
{second}
log = structlog.get_logger("orders")
log.info("order placed", total=99.5, password="hunter2")
early.info("from an early logger", total=1)
log.debug("below the level")
try: 1 / 0
except ZeroDivisionError: log.exception("failed")
logging.getLogger("library").info("standard")
"""


@pytest.mark.parametrize("name", list(CONFIGURATIONS))
@pytest.mark.parametrize("when", ["before", "after"])
def test_processors_of_the_application_are_kept(name: str, when: str) -> None:
    configuration = CONFIGURATIONS[name]
    late_configuration = f"{configuration}\nfrom connectsoft_obs.telemetry import install_log_hooks, resolve\ninstall_log_hooks(resolve())"
    program = PROGRAM.format(
        before="", first=configuration if when == "before" else "", second=late_configuration if when == "after" else ""
    )
    result = run_script(program)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line for line in result.json_lines if line.get("logger") != "connectsoft_obs"]
    assert [line["message"] for line in lines] == ["order placed", "from an early logger", "failed", "standard"]
    order, _, failed, _ = lines
    assert (order["total"], order["custom"], order["password"]) == (99.5, True, "REDACTED")
    assert not {"event", "level", "log_level", "timestamp_", "_record"} & order.keys()
    assert (order["severity"], failed["severity"]) == ("INFO", "ERROR")
    assert failed["exception.stacktrace"].startswith("Traceback")
    assert failed["exception.stacktrace"].rstrip().endswith("ZeroDivisionError: division by zero")


def test_other_handlers_get_the_rendered_event(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    code = f"""
import logging, structlog
structlog.configure(processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer(sort_keys=True)],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
logging.basicConfig(filename={str(path)!r}, format="%(message)s", level=logging.INFO)
import connectsoft_obs as obs
obs.configure(service="x")
structlog.get_logger("orders").info("order placed", total=99.5)
"""
    result = run_script(code)
    assert result.messages() == ["order placed"]
    assert result.json_lines[0]["total"] == 99.5
    assert path.read_text() == '{"event": "order placed", "level": "info", "total": 99.5}\n'


def test_file_of_a_structlog_logger_is_still_written(tmp_path: Path) -> None:
    path = tmp_path / "app.jsonl"
    code = f"""
import structlog
structlog.configure(processors=[structlog.processors.JSONRenderer()],
    logger_factory=structlog.WriteLoggerFactory(file=open({str(path)!r}, "w")))
import connectsoft_obs as obs
obs.configure(service="x")
structlog.get_logger().info("order placed", total=99.5)
"""
    assert run_script(code).messages() == ["order placed"]
    assert path.read_text() == '{"total": 99.5, "event": "order placed"}\n'


def test_wrapper_class_can_be_reconfigured() -> None:
    code = """
import structlog, connectsoft_obs as obs
obs.configure(service="x")
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
log = structlog.get_logger("orders")
log.info("below"); log.warning("above", number=1)
"""
    [line] = run_script(code).json_lines
    assert (line["message"], line["number"], line["logger"], line["severity"]) == ("above", 1, "orders", "WARN")


def test_message_and_fields_may_be_named_event() -> None:
    with capture() as seen:
        obs.get_logger("audit").info("with a field", event="order.placed")
        obs.get_logger("audit").info(event="message by keyword", total=3)
    assert seen.log("with a field")["event"] == "order.placed"
    assert seen.log("message by keyword")["total"] == 3

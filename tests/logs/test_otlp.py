"""Log records over OTLP: off by default, equal to the JSON lines, and without the records of exporters."""

from __future__ import annotations

import datetime
from typing import Any

import httpx
import pytest
from support.otlp import GrpcSink, HttpSink, decode_attributes, decode_value
from support.process import free_port, uvicorn, wait_for
from support.scripts import run_script

HEAD = {"timestamp", "severity", "message", "logger", "trace_id", "span_id", "trace_flags"}
RESOURCE = {"service.name", "service.version", "deployment.environment.name"}
LAST_MESSAGE = "Application shutdown complete."
NUMBERS = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}


def as_line(record: Any, logger: str, resource: dict[str, Any]) -> dict[str, Any]:
    """The JSON line that corresponds to an OTLP record by the documented mapping."""
    time = datetime.datetime.fromtimestamp(record.time_unix_nano // 10**9, datetime.UTC)
    line: dict[str, Any] = {
        "timestamp": f"{time:%Y-%m-%dT%H:%M:%S}.{record.time_unix_nano % 10**9 // 1000:06d}Z",
        "severity": record.severity_text,
        "message": record.body.string_value,
        **({"logger": logger} if logger else {}),
    }
    if record.trace_id:
        line |= {
            "trace_id": record.trace_id.hex(),
            "span_id": record.span_id.hex(),
            "trace_flags": f"{record.flags:02x}",
        }
    line |= {key: resource[key] for key in RESOURCE if key in resource}
    line |= {pair.key: decode_value(pair.value) for pair in record.attributes}
    return line | ({"otel.event.name": record.event_name} if record.event_name else {})


def received_records(received: Any) -> list[tuple[Any, dict[str, Any]]]:
    return [
        (record, as_line(record, scope.scope.name, decode_attributes(resource.resource.attributes)))
        for path, message in list(received.requests)
        if path == "/v1/logs"
        for resource in message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


@pytest.mark.parametrize(
    ("sink", "protocol", "profile"), [(HttpSink, "http/protobuf", "otel"), (GrpcSink, "grpc", "connectsoft")]
)
def test_record_equals_the_line_field_by_field(sink: Any, protocol: str, profile: str) -> None:
    with sink() as collector:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.4.0",
            "CONNECTSOFT_OBS_LOG_PROFILE": profile,
            "PYTHONWARNINGS": "default",
        }
        with uvicorn("chatty_logging:app", env=env) as service:
            service.wait_until_ready()
            for path in ("/log", "/threads-and-tasks", "/boom", "/unhandled", "/errors?times=30"):
                httpx.get(service.url + path, headers={"x-token": "t"})
            wait_for(lambda: "from a background task" in service.output, 5, "the background task's line")
            service.stop()
        records = received_records(collector.received)
    # uvicorn terminates itself by a signal; its records after the lifespan are on standard output only.
    lines = [
        line for line in service.json_lines if line["message"] != LAST_MESSAGE and "Finished" not in line["message"]
    ]
    assert len(lines) > 15
    messages = [record["message"] for _, record in records]
    assert sorted(messages) == sorted(line["message"] for line in lines)
    if profile == "otel":
        key = lambda line: (line["timestamp"], line["message"])  # noqa: E731
        assert sorted((line for _, line in records), key=key) == sorted(lines, key=key)
    for record, line in records:
        assert record.severity_number == NUMBERS[line["severity"]]
        assert record.observed_time_unix_nano == record.time_unix_nano
    [(record, exception)] = [pair for pair in records if pair[1].get("exception.type") == "ValueError"]
    assert record.event_name == "http.server.request.exception"
    assert exception["exception.message"] == "it broke: password=REDACTED"
    assert "hunter2" not in str(records)
    warnings = [line for line in service.output.splitlines() if "DeprecationWarning" in line]
    assert not [line for line in warnings if "opentelemetry" in line or "connectsoft_obs" in line]


def test_logs_are_not_exported_by_default() -> None:
    with HttpSink() as collector:
        with uvicorn("chatty_logging:app", env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as service:
            service.wait_until_ready()
            httpx.get(f"{service.url}/log")
            service.stop()
        assert collector.received.spans
        assert collector.received.logs == []


def test_export_failures_are_not_exported() -> None:
    """Each failed export logs a record. Exporting it as well would cause the next one, endlessly."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_LOGS_EXPORTER": "otlp"}
    code = """
import logging, time, connectsoft_obs as obs
telemetry = obs.configure(service="x", log_schedule_delay=0.02)
telemetry.serve()
logging.getLogger("opentelemetry.exporter.otlp").warning("transient error")
logging.getLogger("orders").warning("of the application")
deadline = time.monotonic() + 1.0
while time.monotonic() < deadline:
    obs.get_logger().info("a line"); time.sleep(0.02)
telemetry.shutdown(0.5)
"""
    result = run_script(code, env=env)
    assert result.exit_code == 0, result.stderr
    messages = result.messages()
    assert {"transient error", "of the application", "a line"} <= set(messages), (
        "records that are not exported are on standard output"
    )
    failures = [message for message in messages if "export" in message]
    assert 1 <= len(failures) <= 2, "one line per change of state"


def test_record_of_an_exporter_is_not_exported() -> None:
    with HttpSink() as collector:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_LOGS_EXPORTER": "otlp"}
        code = """
import logging, connectsoft_obs as obs
from opentelemetry.context import attach, detach, set_value
from opentelemetry import context as otel
telemetry = obs.configure(service="x"); telemetry.serve()
logging.getLogger("opentelemetry.exporter.otlp.proto.http").warning("by its logger")
token = attach(set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))
logging.getLogger("urllib3.connectionpool").warning("by its context")
detach(token)
logging.getLogger("urllib3.connectionpool").warning("an ordinary one")
telemetry.shutdown()
"""
        result = run_script(code, env=env)
        assert {"by its logger", "by its context", "an ordinary one"} <= set(result.messages()), result.stderr
        sent = {record.body.string_value for record in collector.received.logs}
    assert "an ordinary one" in sent
    assert not {"by its logger", "by its context"} & sent

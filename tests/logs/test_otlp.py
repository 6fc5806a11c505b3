"""Log records over OTLP: on request, equal to the JSON lines field by field, and never about themselves."""

from __future__ import annotations

import datetime
from typing import Any

import httpx
import pytest
from support.otlp import GrpcSink, HttpSink, attributes, value
from support.process import free_port, uvicorn, wait_for
from support.scripts import run

HEAD = {"timestamp", "severity", "message", "logger", "trace_id", "span_id", "trace_flags"}
RESOURCE = {"service.name", "service.version", "deployment.environment.name"}
AFTER = "Application shutdown complete."
NUMBERS = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}


def as_line(record: Any, logger: str, resource: dict[str, Any]) -> dict[str, Any]:
    """The JSON line that an OTLP record would be, by the documented mapping."""
    moment = datetime.datetime.fromtimestamp(record.time_unix_nano // 10**9, datetime.UTC)
    line: dict[str, Any] = {
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{record.time_unix_nano % 10**9 // 1000:06d}Z",
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
    line |= {pair.key: value(pair.value) for pair in record.attributes}
    return line | ({"otel.event.name": record.event_name} if record.event_name else {})


def records(received: Any) -> list[tuple[Any, dict[str, Any]]]:
    return [
        (record, as_line(record, scope.scope.name, attributes(resource.resource.attributes)))
        for path, message in list(received.requests)
        if path == "/v1/logs"
        for resource in message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


@pytest.mark.parametrize(
    ("sink", "protocol", "profile"), [(HttpSink, "http/protobuf", "otel"), (GrpcSink, "grpc", "connectsoft")]
)
def test_a_record_equals_the_line_field_by_field(sink: Any, protocol: str, profile: str) -> None:
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
            service.ready()
            for path in ("/say", "/elsewhere", "/boom", "/unraised", "/errors?times=30"):
                httpx.get(service.url + path, headers={"x-token": "t"})
            wait_for(lambda: "from a background task" in service.said, 5, "the background task's line")
            service.stop()
        found = records(collector.received)
    # uvicorn ends itself by a signal; what it says between the end of the lifespan and that is on standard output only.
    lines = [line for line in service.lines if line["message"] != AFTER and "Finished" not in line["message"]]
    assert len(lines) > 15
    by_message = [record["message"] for _, record in found]
    assert sorted(by_message) == sorted(line["message"] for line in lines)
    if profile == "otel":
        key = lambda line: (line["timestamp"], line["message"])  # noqa: E731
        assert sorted((line for _, line in found), key=key) == sorted(lines, key=key)
    for record, line in found:
        assert record.severity_number == NUMBERS[line["severity"]]
        assert record.observed_time_unix_nano == record.time_unix_nano
    [(record, exception)] = [pair for pair in found if pair[1].get("exception.type") == "ValueError"]
    assert record.event_name == "http.server.request.exception"
    assert exception["exception.message"] == "it broke: password=REDACTED"
    assert "hunter2" not in str(found)
    warnings = [line for line in service.said.splitlines() if "DeprecationWarning" in line]
    assert not [line for line in warnings if "opentelemetry" in line or "connectsoft_obs" in line]


def test_nothing_is_sent_unless_it_is_asked_for() -> None:
    with HttpSink() as collector:
        with uvicorn("chatty_logging:app", env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as service:
            service.ready()
            httpx.get(f"{service.url}/say")
            service.stop()
        assert collector.received.spans
        assert collector.received.logs == []


def test_what_exporters_say_about_a_dead_collector_is_never_exported_itself() -> None:
    """Each failed export logs; were that exported too, it would never end."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_LOGS_EXPORTER": "otlp"}
    code = """
import logging, time, connectsoft_obs as obs
telemetry = obs.configure(service="x", log_schedule_delay=0.02)
telemetry.serve()
logging.getLogger("opentelemetry.exporter.otlp").warning("transient error")
logging.getLogger("orders").warning("ours")
deadline = time.monotonic() + 1.0
while time.monotonic() < deadline:
    obs.get_logger().info("a line"); time.sleep(0.02)
telemetry.shutdown(0.5)
"""
    ended = run(code, env=env)
    assert ended.code == 0, ended.err
    said = ended.messages()
    assert {"transient error", "ours", "a line"} <= set(said), "what is not exported is still on standard output"
    troubles = [message for message in said if "export" in message]
    assert 1 <= len(troubles) <= 2, "one line for each change of state, whatever fails in between"


def test_a_log_line_of_an_exporter_does_not_reach_the_collector() -> None:
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
        ended = run(code, env=env)
        assert {"by its logger", "by its context", "an ordinary one"} <= set(ended.messages()), ended.err
        sent = {record.body.string_value for record in collector.received.logs}
    assert "an ordinary one" in sent
    assert not {"by its logger", "by its context"} & sent

"""Hostile and malformed input causes no exception, delay, forged log line or exposed secret."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from support.otlp import HttpSink
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.endpoints import EndpointRequest, EndpointRouter
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.settings import load_settings
from connectsoft_obs.testing import capture
from connectsoft_obs.vocabulary import ERRORS

# Values that do not occur anywhere else.
SECRETS = {
    "password": "Pl4nted-password-7",
    "bearer": "Bearer pl4nted.bearer.token.0123456789abcdef",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbDRudGVkIn0.c2lnbmF0dXJlLXBsNG50ZWQ",
    "dsn": "postgresql://app:Pl4nted-dsn-8@db.internal/orders",
    "azure": "AccountKey=cGw0bnRlZGNoYXJzcGw0bnRlZGNoYXJzcGw0bnRlZGNoYXJz==",
    "card": "4111111111111111",
    "cookie": "session=pl4nted-cookie-9",
}
SECRET_PARTS = (
    "Pl4nted-password-7", "pl4nted.bearer.token", "c2lnbmF0dXJlLXBsNG50ZWQ", "Pl4nted-dsn-8",
    "cGw0bnRlZGNoYXJz", "4111111111111111", "pl4nted-cookie-9", "Pl4nted-token-1", "Pl4nted-metrics-2", "Pl4nted-otlp-3",
)  # fmt: skip


def test_secrets_do_not_appear_in_any_output() -> None:
    with HttpSink() as sink:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_LOGS_EXPORTER": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=Pl4nted-otlp-3",
            "CONNECTSOFT_OBS_DETAILS_TOKEN": "Pl4nted-token-1",
            "CONNECTSOFT_OBS_ENVIRONMENT": "development",  # all clients get the details
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "authorization,cookie,x-api-key,x-note",
            "PLANTED": json.dumps(SECRETS),
        }  # fmt: skip
        with uvicorn("leaking_secrets:app", "--no-access-log", env=environment) as service:
            service.wait_until_ready("/health/live")
            headers = {
                "authorization": SECRETS["bearer"], "cookie": SECRETS["cookie"], "x-api-key": SECRETS["password"],
                "traceparent": SECRETS["jwt"], "x-correlation-id": SECRETS["bearer"], "baggage": f"token={SECRETS['jwt']}",
            }  # fmt: skip
            query = {"token": SECRETS["jwt"], "password": SECRETS["password"], "sig": SECRETS["azure"]}
            for path in ("logged", "raised", "bound", "measured", "job", "message"):
                httpx.get(f"{service.url}/{path}", headers=headers, params=query)
            pages = [
                httpx.get(f"{service.url}{path}", headers=headers, params={"verbose": "", **query}).text
                for path in ("/health", "/health/ready", "/metrics", "/info", "/health/live")
            ]
            wait_for(lambda: "failed" in httpx.get(f"{service.url}/health?verbose").text, 10, "the check has failed")
            pages += [httpx.get(f"{service.url}/health").text, httpx.get(f"{service.url}/metrics").text]
            service.stop()
            outputs = {
                "lines": "".join(service.stdout_lines),
                "standard error": "".join(service.stderr_lines),
                "pages": "\n".join(pages),
                "otlp": "\n".join(str(message) for _, message in sink.received.requests),
            }
    assert "logged" in outputs["lines"]
    assert "GET /raised" in outputs["otlp"]
    assert "database" in outputs["pages"]
    leaks = {(name, part) for name, text in outputs.items() for part in SECRET_PARTS if part in text}
    assert leaks == set()


def test_log_values_cannot_forge_a_log_line() -> None:
    forged = 'x\n{"severity": "FATAL", "message": "forged"}\r\x1b[2J\x00\u2028\x85'
    with uvicorn("leaking_secrets:app", "--no-access-log", env={"PLANTED": "{}"}) as service:
        service.wait_until_ready("/health/live")
        httpx.get(f"{service.url}/logged-text", params={"text": forged})
        httpx.get(f"{service.url}/logged-text", headers={"user-agent": "a\\n{}", "x-correlation-id": "a%0d%0ab"})
        with socket.create_connection(("127.0.0.1", service.port), 5) as connection:
            connection.sendall(
                b"GET /%0a%7b%7d HTTP/1.1\r\nhost: a\x01b\r\nuser-agent: \xff\xfe\x1b[31m\r\nconnection: close\r\n\r\n"
            )
            while connection.recv(4096):
                pass
        service.stop()
    assert all(line.startswith("{") for line in service.stdout_lines), service.stdout_lines
    assert not [line for line in service.json_lines if line["message"] == "forged"]
    assert not any(
        control in line.rstrip("\n") for line in service.stdout_lines for control in ("\x1b", "\x00", "\r", "\n")
    )


class UnusableValue:
    def __str__(self) -> str:
        raise RuntimeError("str")

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __hash__(self) -> int:
        raise RuntimeError("hash")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")


def unusual_values() -> list[Any]:
    cyclic: dict[str, Any] = {}
    cyclic["self"] = [cyclic]
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    return [
        cyclic, deep, UnusableValue(), UnprintableError(), "\ud800", b"\xff\xfe", "x" * 10_000_000, 10**400, float("nan"),
        {UnusableValue: 1}, {("a", 1): 2}, list(range(100_000)), object, lambda: 0, memoryview(b"a"), {1: {2: {3: UnusableValue()}}},
    ]  # fmt: skip


def test_public_functions_accept_unusual_values() -> None:
    with capture() as captured:
        logger = obs.get_logger("unusual")
        structlog_logger = structlog.get_logger("unusual")
        stdlib_logger = logging.getLogger("unusual")
        counter = obs.counter("unusual.values", labels=("kind",))
        start = time.monotonic()
        for value in unusual_values():
            with obs.operation("unusual"):
                logger.info("unusual", value=value)
                logger.info(value)
                structlog_logger.info("unusual", value=value)
                stdlib_logger.warning("unusual", extra={"value": value})
                obs.bind(order_id=value, correlation_id=value)
                counter.add(1, kind=value)
                obs.extract({"traceparent": value, "baggage": value})
                obs.extract(value)
                with trace.get_tracer("unusual").start_as_current_span("unusual") as span:
                    span.record_exception(UnprintableError())
        assert time.monotonic() - start < 60
        assert max(len(json.dumps(line)) for line in captured.logs) < 300_000
    with capture(), pytest.raises(UnprintableError), trace.get_tracer("unusual").start_as_current_span("raises"):
        raise UnprintableError


@pytest.mark.parametrize("options", [("--http", "httptools"), ("--http", "h11")])
def test_correlation_id_invalid_as_header_value_is_replaced(options: tuple[str, str]) -> None:
    with (
        uvicorn("correlation_ids:app", "--no-access-log", *options) as service,
        httpx.Client(base_url=service.url) as client,
    ):
        service.wait_until_ready()
        for value in ("a\r\nset-cookie: x=1", "a\0b", "\u0142\u00f3d\u017a", "two words", "", "x" * 5000, "\t"):
            response = client.get("/bind", params={"id": value})
            assert response.status_code == 200
            assert "set-cookie" not in response.headers
            correlation_id = response.headers["x-correlation-id"]
            assert re.fullmatch("[0-9a-f]{32}", correlation_id)
            assert response.json()["X-Correlation-Id"] == correlation_id
        response = client.get("/bind", params={"id": "order:17"})
        assert response.headers["x-correlation-id"] == response.json()["X-Correlation-Id"] == "order:17"
        assert "connectsoft_obs_errors_total{" not in client.get("/metrics").text

        def logged_ids() -> list[str]:
            lines = [line for line in service.json_lines if line["message"] == "GET /bind 200"]
            return [line["connectsoft.correlation.id"] for line in lines]

        wait_for(lambda: len(logged_ids()) == 8)
    assert logged_ids()[2] == "\u0142\u00f3d\u017a"
    assert logged_ids()[-1] == "order:17"


text = st.text(max_size=60) | st.binary(max_size=60).map(lambda value: value.decode("latin-1"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.binary(max_size=40),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=10,
)
header_names = st.sampled_from(
    [
        "traceparent",
        "tracestate",
        "baggage",
        "x-correlation-id",
        "tenant-id",
        "x-delivery-count",
        "diagnostic-id",
        "sent",
    ]
)


@given(
    headers=values
    | st.dictionaries(header_names, values, max_size=6)
    | st.lists(st.tuples(header_names, values), max_size=6),
    body=values | st.builds(lambda value: json.dumps(value, default=str), values),
    properties=st.dictionaries(
        st.sampled_from(
            ["message_id", "timestamp", "enqueued_time_utc", "delivery_count", "dequeue_count", "redelivered", "id"]
        ),
        values,
    ),
)
@settings(max_examples=150)
def test_any_message_is_processed_once(headers: Any, body: Any, properties: dict[str, Any]) -> None:
    processed: list[Any] = []
    with capture() as captured:
        obs.consumer("fuzz", system="rabbitmq")(processed.append)({"headers": headers, "body": body, **properties})
        obs.consumer("fuzz", system="rabbitmq")(processed.append)(body)
    assert len(processed) == 2
    assert len(captured.spans) == 2


@given(
    event=st.dictionaries(
        st.sampled_from(
            ["eventId", "eventType", "correlationId", "traceId", "tenantId", "occurredAt", "payload", "schemaVersion",
             "projectId", "lifecycleId", "agentId", "data", "specversion", "type", "source"]
        ),
        values,
    )
)  # fmt: skip
@settings(max_examples=100)
def test_any_envelope_is_processed(event: dict[str, Any]) -> None:
    with capture() as captured:
        assert obs.consumer("fuzz", system="servicebus")(lambda message: 7)(event) == 7
    assert len(captured.spans) == 1


@given(
    query=st.binary(max_size=200),
    token=st.binary(max_size=100),
    accept=st.binary(max_size=60),
    path=st.sampled_from(
        ["/health", "/health/ready", "/health/live", "/metrics", "/info", "/health/ready/", "/loggers/a"]
    ),
    suffix=text,
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    peer=st.none() | text,
)
@settings(max_examples=150)
def test_endpoints_respond_to_any_request_and_require_the_token(
    query: bytes, token: bytes, accept: bytes, path: str, suffix: str, method: str, peer: str | None
) -> None:
    with capture(
        details_token="Pl4nted-token-1", metrics_token="Pl4nted-metrics-2", loggers_path="/loggers"
    ) as captured:
        assert captured.telemetry is not None
        endpoints = EndpointRouter(captured.telemetry)
        headers = {b"authorization": b"Bearer " + token, b"accept": accept, b"accept-encoding": accept}
        for request_path in (path, path + suffix):
            page = endpoints.find_page(method, request_path)
            if page is not None:
                response = page(EndpointRequest(method, query, headers, peer))
                assert response.status in (200, 503, 404, 401, 400)
                assert request_path not in ("/metrics", "/loggers/a") or response.status in (401, 404)
        assert not captured.telemetry.metrics.family(ERRORS).children


VARIABLES = st.sampled_from(
    ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS",
     "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_PROPAGATORS", "LOG_LEVEL",
     "OTEL_SDK_DISABLED", "CONNECTSOFT_OBS_LOG_LEVELS", "CONNECTSOFT_OBS_TRUSTED_PROXIES", "CONNECTSOFT_OBS_REDACT_PATTERN",
     "CONNECTSOFT_OBS_CARDINALITY_LIMIT", "CONNECTSOFT_OBS_DRAIN_DELAY", "CONNECTSOFT_OBS_HEALTH_PATH", "CONNECTSOFT_OBS_SLO_FILE",
     "OTEL_EXPORTER_PROMETHEUS_PORT", "OTEL_METRIC_EXPORT_INTERVAL", "CONNECTSOFT_OBS_TENANT_HEADER"]
)  # fmt: skip


@given(
    environ=st.dictionaries(
        VARIABLES, text | st.sampled_from(["nan", "inf", "-1", "1e999", "=", ",,,", "(a+)+$", "[::1"])
    )
)
@settings(max_examples=200)
def test_any_environment_loads_or_raises_configuration_error(environ: dict[str, str]) -> None:
    try:
        loaded = load_settings(environ)
    except ConfigurationError as error:
        assert error.why  # noqa: PT017
        assert error.instead  # noqa: PT017
    else:
        assert loaded.cardinality_limit >= 1

"""What strangers and careless developers send: no exception, no loss of time, no forged line, no secret in any sink."""

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

# Each is unmistakable, so that finding it anywhere is finding it.
SECRETS = {
    "password": "Pl4nted-password-7",
    "bearer": "Bearer pl4nted.bearer.token.0123456789abcdef",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbDRudGVkIn0.c2lnbmF0dXJlLXBsNG50ZWQ",
    "dsn": "postgresql://app:Pl4nted-dsn-8@db.internal/orders",
    "azure": "AccountKey=cGw0bnRlZGNoYXJzcGw0bnRlZGNoYXJzcGw0bnRlZGNoYXJz==",
    "card": "4111111111111111",
    "cookie": "session=pl4nted-cookie-9",
}
NEEDLES = (
    "Pl4nted-password-7", "pl4nted.bearer.token", "c2lnbmF0dXJlLXBsNG50ZWQ", "Pl4nted-dsn-8",
    "cGw0bnRlZGNoYXJz", "4111111111111111", "pl4nted-cookie-9", "Pl4nted-token-1", "Pl4nted-metrics-2", "Pl4nted-otlp-3",
)  # fmt: skip


def test_no_secret_that_was_planted_is_in_any_sink() -> None:
    with HttpSink() as sink:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_LOGS_EXPORTER": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=Pl4nted-otlp-3",
            "CONNECTSOFT_OBS_DETAILS_TOKEN": "Pl4nted-token-1",
            "CONNECTSOFT_OBS_ENVIRONMENT": "development",  # whoever asks sees the details
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "authorization,cookie,x-api-key,x-note",
            "PLANTED": json.dumps(SECRETS),
        }  # fmt: skip
        with uvicorn("leaking_secrets:app", "--no-access-log", env=environment) as service:
            service.ready("/health/live")
            headers = {
                "authorization": SECRETS["bearer"], "cookie": SECRETS["cookie"], "x-api-key": SECRETS["password"],
                "traceparent": SECRETS["jwt"], "x-correlation-id": SECRETS["bearer"], "baggage": f"token={SECRETS['jwt']}",
            }  # fmt: skip
            query = {"token": SECRETS["jwt"], "password": SECRETS["password"], "sig": SECRETS["azure"]}
            for way in ("logged", "raised", "bound", "measured", "job", "message"):
                httpx.get(f"{service.url}/{way}", headers=headers, params=query)
            pages = [
                httpx.get(f"{service.url}{path}", headers=headers, params={"verbose": "", **query}).text
                for path in ("/health", "/health/ready", "/metrics", "/info", "/health/live")
            ]
            wait_for(lambda: "failed" in httpx.get(f"{service.url}/health?verbose").text, 10, "the check has failed")
            pages += [httpx.get(f"{service.url}/health").text, httpx.get(f"{service.url}/metrics").text]
            service.stop()
            sinks = {
                "lines": "".join(service.out),
                "standard error": "".join(service.err),
                "pages": "\n".join(pages),
                "otlp": "\n".join(str(message) for _, message in sink.received.requests),
            }
    assert "logged" in sinks["lines"]
    assert "GET /raised" in sinks["otlp"]
    assert "database" in sinks["pages"]
    found = {(name, needle) for name, text in sinks.items() for needle in NEEDLES if needle in text}
    assert found == set()


def test_a_line_cannot_be_forged_by_what_is_in_it() -> None:
    forged = 'x\n{"severity": "FATAL", "message": "forged"}\r\x1b[2J\x00\u2028\x85'
    with uvicorn("leaking_secrets:app", "--no-access-log", env={"PLANTED": "{}"}) as service:
        service.ready("/health/live")
        httpx.get(f"{service.url}/said", params={"what": forged})
        httpx.get(f"{service.url}/said", headers={"user-agent": "a\\n{}", "x-correlation-id": "a%0d%0ab"})
        with socket.create_connection(("127.0.0.1", service.port), 5) as raw:
            raw.sendall(
                b"GET /%0a%7b%7d HTTP/1.1\r\nhost: a\x01b\r\nuser-agent: \xff\xfe\x1b[31m\r\nconnection: close\r\n\r\n"
            )
            while raw.recv(4096):
                pass
        service.stop()
    assert all(line.startswith("{") for line in service.out), service.out
    assert not [line for line in service.lines if line["message"] == "forged"]
    assert not any(control in line.rstrip("\n") for line in service.out for control in ("\x1b", "\x00", "\r", "\n"))


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("str")

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __hash__(self) -> int:
        raise RuntimeError("hash")


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")


def odd_values() -> list[Any]:
    cyclic: dict[str, Any] = {}
    cyclic["self"] = [cyclic]
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    return [
        cyclic, deep, Broken(), BrokenError(), "\ud800", b"\xff\xfe", "x" * 10_000_000, 10**400, float("nan"),
        {Broken: 1}, {("a", 1): 2}, list(range(100_000)), object, lambda: 0, memoryview(b"a"), {1: {2: {3: Broken()}}},
    ]  # fmt: skip


def test_odd_values_harm_nobody_wherever_they_are_put() -> None:
    with capture() as seen:
        log, others, standard = obs.get_logger("odd"), structlog.get_logger("odd"), logging.getLogger("odd")
        measured = obs.counter("odd.things", labels=("kind",))
        began = time.monotonic()
        for value in odd_values():
            with obs.operation("odd"):
                log.info("odd", value=value)
                log.info(value)
                others.info("odd", value=value)
                standard.warning("odd", extra={"value": value})
                obs.bind(order_id=value, correlation_id=value)
                measured.add(1, kind=value)
                obs.extract({"traceparent": value, "baggage": value})
                obs.extract(value)
                with trace.get_tracer("odd").start_as_current_span("odd") as span:
                    span.record_exception(BrokenError())
        assert time.monotonic() - began < 60
        assert max(len(json.dumps(line)) for line in seen.logs) < 300_000
    with capture(), pytest.raises(BrokenError), trace.get_tracer("odd").start_as_current_span("raises"):
        raise BrokenError


@pytest.mark.parametrize("options", [("--http", "httptools"), ("--http", "h11")])
def test_a_strangers_correlation_id_that_no_header_can_carry_changes_no_answer(options: tuple[str, str]) -> None:
    with (
        uvicorn("correlation_ids:app", "--no-access-log", *options) as service,
        httpx.Client(base_url=service.url) as client,
    ):
        service.ready()
        for given in ("a\r\nset-cookie: x=1", "a\0b", "\u0142\u00f3d\u017a", "two words", "", "x" * 5000, "\t"):
            answer = client.get("/bound", params={"id": given})
            assert answer.status_code == 200
            assert "set-cookie" not in answer.headers
            own = answer.headers["x-correlation-id"]
            assert re.fullmatch("[0-9a-f]{32}", own)
            assert answer.json()["X-Correlation-Id"] == own
        answer = client.get("/bound", params={"id": "order:17"})
        assert answer.headers["x-correlation-id"] == answer.json()["X-Correlation-Id"] == "order:17"
        assert "connectsoft_obs_errors_total{" not in client.get("/metrics").text
        lines = wait_for(
            lambda: len(found := [line for line in service.lines if line["message"] == "GET /bound 200"]) == 8 and found
        )
    assert isinstance(lines, list)
    said = [line["connectsoft.correlation.id"] for line in lines]
    assert said[2] == "\u0142\u00f3d\u017a"
    assert said[-1] == "order:17"


text = st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
named = st.sampled_from(
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
    headers=anything | st.dictionaries(named, anything, max_size=6) | st.lists(st.tuples(named, anything), max_size=6),
    body=anything | st.builds(lambda inner: json.dumps(inner, default=str), anything),
    more=st.dictionaries(
        st.sampled_from(
            ["message_id", "timestamp", "enqueued_time_utc", "delivery_count", "dequeue_count", "redelivered", "id"]
        ),
        anything,
    ),
)
@settings(max_examples=150)
def test_any_message_is_processed_once(headers: Any, body: Any, more: dict[str, Any]) -> None:
    processed: list[Any] = []
    with capture() as seen:
        obs.consumer("fuzz", system="rabbitmq")(processed.append)({"headers": headers, "body": body, **more})
        obs.consumer("fuzz", system="rabbitmq")(processed.append)(body)
    assert len(processed) == 2
    assert len(seen.spans) == 2


@given(
    event=st.dictionaries(
        st.sampled_from(
            ["eventId", "eventType", "correlationId", "traceId", "tenantId", "occurredAt", "payload", "schemaVersion",
             "projectId", "lifecycleId", "agentId", "data", "specversion", "type", "source"]
        ),
        anything,
    )
)  # fmt: skip
@settings(max_examples=100)
def test_any_envelope_is_processed(event: dict[str, Any]) -> None:
    with capture() as seen:
        assert obs.consumer("fuzz", system="servicebus")(lambda message: 7)(event) == 7
    assert len(seen.spans) == 1


@given(
    query=st.binary(max_size=200),
    token=st.binary(max_size=100),
    accept=st.binary(max_size=60),
    path=st.sampled_from(
        ["/health", "/health/ready", "/health/live", "/metrics", "/info", "/health/ready/", "/loggers/a"]
    ),
    tail=text,
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    peer=st.none() | text,
)
@settings(max_examples=150)
def test_any_question_has_an_answer_and_no_token_is_guessed(
    query: bytes, token: bytes, accept: bytes, path: str, tail: str, method: str, peer: str | None
) -> None:
    with capture(details_token="Pl4nted-token-1", metrics_token="Pl4nted-metrics-2", loggers_path="/loggers") as seen:
        assert seen.telemetry is not None
        endpoints = EndpointRouter(seen.telemetry)
        headers = {b"authorization": b"Bearer " + token, b"accept": accept, b"accept-encoding": accept}
        for where in (path, path + tail):
            page = endpoints.page(method, where)
            if page is not None:
                answered = page(EndpointRequest(method, query, headers, peer))
                assert answered.status in (200, 503, 404, 401, 400)
                assert where not in ("/metrics", "/loggers/a") or answered.status in (401, 404)
        assert not seen.telemetry.metrics.family(ERRORS).children


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
def test_any_environment_is_settings_or_a_refusal_in_words(environ: dict[str, str]) -> None:
    try:
        made = load_settings(environ)
    except ConfigurationError as refused:
        assert refused.why  # noqa: PT017
        assert refused.instead  # noqa: PT017
    else:
        assert made.cardinality_limit >= 1

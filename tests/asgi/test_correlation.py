"""Propagation of trace context, baggage and correlation ids, inbound and outbound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.asgi.access_log import ACCESS_LOGGER
from connectsoft_obs.context import w3c
from connectsoft_obs.testing import Captured, capture

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def injected_headers(request: Request) -> JSONResponse:
    headers: dict[str, str] = {}
    obs.inject(headers)
    return JSONResponse(headers)


async def failing(request: Request) -> JSONResponse:
    message = "failed"
    raise RuntimeError(message)


async def app_correlation_id(request: Request) -> PlainTextResponse:
    return PlainTextResponse("", headers={"X-Correlation-ID": "app-id"})


def send_request(headers: Any = None, path: str = "/injected", **options: Any) -> tuple[Any, Captured]:
    app = Starlette(
        routes=[Route("/injected", injected_headers), Route("/failing", failing), Route("/own-id", app_correlation_id)]
    )
    app.add_middleware(obs.ObservabilityMiddleware, service="correlation", **options)
    with capture() as captured:
        return TestClient(app, raise_server_exceptions=False).get(path, headers=headers), captured


def trace_and_parent(captured: Captured) -> tuple[str, str | None]:
    [span] = [span for span in captured.spans if span.kind is trace.SpanKind.SERVER]  # clients may add spans
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else None


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_inbound_trace_is_continued_with_its_flags(flags: str) -> None:
    response, captured = send_request({"traceparent": f"00-{TRACE}-{PARENT}-{flags}"})
    traceparent = response.json()["traceparent"]
    assert traceparent.startswith(f"00-{TRACE}-")
    assert traceparent.endswith(f"-{flags}")
    if int(flags) & 1:
        assert trace_and_parent(captured) == (TRACE, PARENT)
    else:
        assert captured.spans == []
        assert captured.log("GET /injected 200")["trace_id"] == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "", "garbage", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", f"00-{TRACE}-{PARENT}", f"00-{TRACE[:-1]}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-1", f"00-{TRACE}-{PARENT}-zz", "x" * 10_000,
    ],
)  # fmt: skip
def test_invalid_traceparent_starts_a_new_trace_without_a_log_line(value: str) -> None:
    _, captured = send_request({"traceparent": value})
    trace_id, parent_id = trace_and_parent(captured)
    assert trace_id != TRACE
    assert parent_id is None
    assert [line["logger"] for line in captured.logs if line["message"] != "readiness is unhealthy"] == [ACCESS_LOGGER]


def test_traceparent_of_a_later_version_may_have_more_fields() -> None:
    _, captured = send_request({"traceparent": f"cc-{TRACE}-{PARENT}-01-more-fields"})
    assert trace_and_parent(captured) == (TRACE, PARENT)


def test_duplicate_traceparent_headers_are_ignored() -> None:
    _, captured = send_request([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("traceparent", f"00-{TRACE}-{PARENT}-01")])
    assert trace_and_parent(captured)[1] is None


def test_several_tracestate_headers_are_joined_and_propagated() -> None:
    response, _ = send_request(
        [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=1"), ("tracestate", "b@v=2 , c=3")]
    )
    assert response.json()["tracestate"] == "a=1,b@v=2,c=3"


@pytest.mark.parametrize(
    ("state", "propagated"),
    [
        ("1foo=1,bar=2", "1foo=1,bar=2"),
        ("foo@=1,bar=2", "foo@=1,bar=2"),
        ("foo@@bar=1,bar=2", "foo@@bar=1,bar=2"),
        ("foo@bar@baz=1,bar=2", "foo@bar@baz=1,bar=2"),
        (f"{'t' * 242}@{'v' * 13}=1,bar=2", f"{'t' * 242}@{'v' * 13}=1,bar=2"),
        ("foo=1,foo=1,bar=2", "foo=1,bar=2"),
        ("foo=1,bar=2,foo=2", "foo=1,bar=2"),
    ],
)
def test_level_2_and_duplicate_tracestate_keys_keep_other_members(state: str, propagated: str) -> None:
    response, captured = send_request([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", state)])
    assert response.json()["tracestate"] == propagated
    assert trace_and_parent(captured) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "state",
    [
        "foo =1,bar=2",
        "foo.bar=1,bar=2",
        "@foo=1,bar=2",
        "A=1",
        ",".join(f"k{n}=1" for n in range(33)),
        "a=\x01",
        "nokey",
        "a" * 20_000,
    ],
)
def test_invalid_tracestate_is_dropped_and_the_trace_continues(state: str) -> None:
    response, captured = send_request([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", state)])
    assert "tracestate" not in response.json()
    assert trace_and_parent(captured) == (TRACE, PARENT)
    assert [line["logger"] for line in captured.logs if line["message"] != "readiness is unhealthy"] == [ACCESS_LOGGER]


@given(st.binary(max_size=200))
def test_w3c_parsers_accept_any_bytes(value: bytes) -> None:
    w3c.parse_traceparent(value)
    w3c.parse_tracestate(value.decode("latin-1"))
    members = w3c.parse_baggage(value.decode("latin-1"))
    assert len(members) <= w3c.MAX_BAGGAGE_MEMBERS


def test_only_allowlisted_baggage_is_on_spans_and_log_lines() -> None:
    _, captured = send_request(
        {"baggage": "connectsoft.tenant.id=acme;p=1,secret=x, connectsoft.execution.id = run%207 "}
    )
    attributes = dict(captured.spans[0].attributes or {})
    assert attributes["connectsoft.tenant.id"] == captured.logs[0]["connectsoft.tenant.id"] == "acme"
    assert attributes["connectsoft.execution.id"] == "run 7"
    assert "secret" not in str(attributes) + str(captured.logs)


@pytest.mark.parametrize(
    "value", ["a=" + "x" * 9000, ",".join(f"k{n}=v" for n in range(5000)), "=;,=;", "a=%ff%zz", "é=ü"]
)
def test_oversized_or_malformed_baggage_is_ignored(value: str) -> None:
    response, captured = send_request({"baggage": value.encode("utf-8")})
    assert response.status_code == 200
    assert len(captured.spans) == 1


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-correlation-id": "abc-1.2_3"}, "abc-1.2_3"),
        ({"x-request-id": "req-7"}, "req-7"),
        ({"x-correlation-id": "a", "x-request-id": "b"}, "a"),
        ({"x-correlation-id": "bad id", "x-request-id": "b"}, "b"),
        ({"x-correlation-id": "x" * 128}, "x" * 128),
        ({"x-correlation-id": "x" * 129}, None),
        ({"x-correlation-id": "a\tb"}, None),
        ({"x-correlation-id": 'a"b'}, None),
        ({}, None),
    ],
)
def test_correlation_id_is_validated_and_returned(headers: dict[str, str], expected: str | None) -> None:
    response, captured = send_request(headers)
    expected = expected or trace_and_parent(captured)[0]
    assert response.headers["x-correlation-id"] == expected
    assert response.json()["X-Correlation-Id"] == expected
    assert captured.logs[0]["connectsoft.correlation.id"] == expected


@pytest.mark.parametrize("lifespan", [True, False])
def test_framework_500_has_the_correlation_id(lifespan: bool) -> None:
    app = Starlette(routes=[Route("/failing", failing)])
    app.add_middleware(obs.ObservabilityMiddleware, service="correlation")
    with capture():
        client = TestClient(app, raise_server_exceptions=False)
        if lifespan:
            with client:
                responses = [client.get("/failing", headers={"x-correlation-id": "c1"}) for _ in range(3)]
        else:
            responses = [client.get("/failing", headers={"x-correlation-id": "c1"}) for _ in range(3)]
    assert [response.headers.get_list("x-correlation-id") for response in responses] == [["c1"]] * 3
    assert [response.text for response in responses] == ["Internal Server Error"] * 3


def test_error_handler_runs_once_and_its_response_has_the_correlation_id() -> None:
    calls: list[str] = []

    async def handler(request: Request, error: Exception) -> PlainTextResponse:
        calls.append(str(error))
        return PlainTextResponse("custom error", 500)

    app = Starlette(routes=[Route("/failing", failing)], exception_handlers={Exception: handler})
    app.add_middleware(obs.ObservabilityMiddleware, service="correlation")
    with capture():
        response = TestClient(app, raise_server_exceptions=False).get("/failing")
    assert (response.text, calls) == ("custom error", ["failed"])
    assert response.headers["x-correlation-id"]


def test_correlation_id_of_the_application_is_not_replaced() -> None:
    response, _ = send_request({"x-correlation-id": "caller-id"}, "/own-id")
    assert response.headers.get_list("x-correlation-id") == ["app-id"]


def test_untrusted_inbound_trace_is_linked_and_baggage_dropped() -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "baggage": "connectsoft.tenant.id=acme"}
    response, captured = send_request(headers, trust_inbound=False)
    trace_id, parent_id = trace_and_parent(captured)
    assert trace_id != TRACE
    assert parent_id is None
    [link] = captured.spans[0].links
    assert f"{link.context.trace_id:032x}" == TRACE
    assert "baggage" not in response.json()
    assert "connectsoft.tenant.id" not in (captured.spans[0].attributes or {})


def test_response_headers_of_the_application_are_not_modified() -> None:
    header_list = [(b"content-type", b"text/plain")]
    message = {"type": "http.response.start", "status": 200, "headers": header_list}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(message)
        await send({"type": "http.response.body", "body": b"x"})

    with capture():
        client = TestClient(obs.ObservabilityMiddleware(app, service="a"))
        responses = [client.get("/") for _ in range(3)]
    assert header_list == [(b"content-type", b"text/plain")]
    assert message["headers"] is header_list
    assert all(len(response.headers.get_list("x-correlation-id")) == 1 for response in responses)


def test_extract_restores_the_injected_context() -> None:
    with capture() as captured:
        with obs.operation("sender"):
            headers: dict[str, str] = {}
            obs.inject(headers)
        context = obs.extract({key.encode(): value for key, value in headers.items()} | {"n": 7})
        with obs.operation("receiver", parent=context):
            pass
    sender, receiver = captured.spans
    sent = sender.get_span_context()
    assert receiver.parent is not None
    assert sent is not None
    assert receiver.parent.span_id == sent.span_id
    assert receiver.parent.is_remote


def test_instrumented_client_sends_the_correlation_id() -> None:
    with capture(), obs.operation("caller") as run:
        run.correlation_id = "business-7"
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context=baggage.set_baggage("a", "b"))
        assert carrier["X-Correlation-Id"] == "business-7"
        assert carrier["traceparent"].split("-")[1] == f"{trace.get_current_span().get_span_context().trace_id:032x}"

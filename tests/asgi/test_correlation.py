"""Identity on the wire: trace context, baggage and correlation ids, in and out."""

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


async def onward(request: Request) -> JSONResponse:
    headers: dict[str, str] = {}
    obs.inject(headers)
    return JSONResponse(headers)


async def boom(request: Request) -> JSONResponse:
    message = "it broke"
    raise RuntimeError(message)


async def own_id(request: Request) -> PlainTextResponse:
    return PlainTextResponse("", headers={"X-Correlation-ID": "mine"})


def ask(headers: Any = None, path: str = "/onward", **options: Any) -> tuple[Any, Captured]:
    app = Starlette(routes=[Route("/onward", onward), Route("/boom", boom), Route("/own", own_id)])
    app.add_middleware(obs.ObservabilityMiddleware, service="correlation", **options)
    with capture() as seen:
        return TestClient(app, raise_server_exceptions=False).get(path, headers=headers), seen


def parent(seen: Captured) -> tuple[str, str | None]:
    [span] = [one for one in seen.spans if one.kind is trace.SpanKind.SERVER]  # client libraries may trace too
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else None


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_a_trace_is_continued_with_its_flags(flags: str) -> None:
    answer, seen = ask({"traceparent": f"00-{TRACE}-{PARENT}-{flags}"})
    sent_on = answer.json()["traceparent"]
    assert sent_on.startswith(f"00-{TRACE}-")
    assert sent_on.endswith(f"-{flags}")
    if int(flags) & 1:
        assert parent(seen) == (TRACE, PARENT)
    else:
        assert seen.spans == []
        assert seen.log("GET /onward 200")["trace_id"] == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "", "garbage", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more", f"00-{TRACE}-{PARENT}", f"00-{TRACE[:-1]}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-1", f"00-{TRACE}-{PARENT}-zz", "x" * 10_000,
    ],
)  # fmt: skip
def test_an_invalid_traceparent_starts_a_new_trace_and_is_no_log_line(value: str) -> None:
    _, seen = ask({"traceparent": value})
    trace_id, above = parent(seen)
    assert trace_id != TRACE
    assert above is None
    assert [line["logger"] for line in seen.logs if line["message"] != "readiness is unhealthy"] == [ACCESS_LOGGER]


def test_a_later_version_may_have_more_fields() -> None:
    _, seen = ask({"traceparent": f"cc-{TRACE}-{PARENT}-01-what-the-future-brings"})
    assert parent(seen) == (TRACE, PARENT)


def test_two_traceparents_are_as_good_as_none() -> None:
    _, seen = ask([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("traceparent", f"00-{TRACE}-{PARENT}-01")])
    assert parent(seen)[1] is None


def test_tracestate_of_several_headers_is_one_list_and_goes_on() -> None:
    answer, _ = ask([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=1"), ("tracestate", "b@v=2 , c=3")])
    assert answer.json()["tracestate"] == "a=1,b@v=2,c=3"


@pytest.mark.parametrize(
    "state", ["a=1,a=2", "A=1", ",".join(f"k{n}=1" for n in range(33)), "a=\x01", "nokey", "a" * 20_000]
)
def test_an_invalid_tracestate_is_dropped_and_the_trace_is_not(state: str) -> None:
    answer, seen = ask([("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", state)])
    assert "tracestate" not in answer.json()
    assert parent(seen) == (TRACE, PARENT)
    assert [line["logger"] for line in seen.logs if line["message"] != "readiness is unhealthy"] == [ACCESS_LOGGER]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(noise: bytes) -> None:
    w3c.parse_traceparent(noise)
    w3c.parse_tracestate(noise.decode("latin-1"))
    found = w3c.parse_baggage(noise.decode("latin-1"))
    assert len(found) <= w3c.MAX_BAGGAGE_MEMBERS


def test_only_listed_baggage_reaches_spans_and_lines() -> None:
    _, seen = ask({"baggage": "connectsoft.tenant.id=acme;p=1,secret=x, connectsoft.execution.id = run%207 "})
    attributes = dict(seen.spans[0].attributes or {})
    assert attributes["connectsoft.tenant.id"] == seen.logs[0]["connectsoft.tenant.id"] == "acme"
    assert attributes["connectsoft.execution.id"] == "run 7"
    assert "secret" not in str(attributes) + str(seen.logs)


@pytest.mark.parametrize(
    "value", ["a=" + "x" * 9000, ",".join(f"k{n}=v" for n in range(5000)), "=;,=;", "a=%ff%zz", "é=ü"]
)
def test_oversized_or_odd_baggage_is_no_failure(value: str) -> None:
    answer, seen = ask({"baggage": value.encode("utf-8")})
    assert answer.status_code == 200
    assert len(seen.spans) == 1


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
def test_a_correlation_id_is_validated_and_returned(headers: dict[str, str], expected: str | None) -> None:
    answer, seen = ask(headers)
    expected = expected or parent(seen)[0]
    assert answer.headers["x-correlation-id"] == expected
    assert answer.json()["X-Correlation-Id"] == expected
    assert seen.logs[0]["connectsoft.correlation.id"] == expected


@pytest.mark.parametrize("lifespan", [True, False])
def test_the_frameworks_own_500_carries_it_from_the_first_request_on(lifespan: bool) -> None:
    app = Starlette(routes=[Route("/boom", boom)])
    app.add_middleware(obs.ObservabilityMiddleware, service="correlation")
    with capture():
        client = TestClient(app, raise_server_exceptions=False)
        if lifespan:
            with client:
                answers = [client.get("/boom", headers={"x-correlation-id": "c1"}) for _ in range(3)]
        else:
            answers = [client.get("/boom", headers={"x-correlation-id": "c1"}) for _ in range(3)]
    assert [answer.headers.get_list("x-correlation-id") for answer in answers] == [["c1"]] * 3
    assert [answer.text for answer in answers] == ["Internal Server Error"] * 3


def test_an_error_handler_of_the_applications_runs_once_and_its_answer_carries_it() -> None:
    calls: list[str] = []

    async def handler(request: Request, error: Exception) -> PlainTextResponse:
        calls.append(str(error))
        return PlainTextResponse("sorry", 500)

    app = Starlette(routes=[Route("/boom", boom)], exception_handlers={Exception: handler})
    app.add_middleware(obs.ObservabilityMiddleware, service="correlation")
    with capture():
        answer = TestClient(app, raise_server_exceptions=False).get("/boom")
    assert (answer.text, calls) == ("sorry", ["it broke"])
    assert answer.headers["x-correlation-id"]


def test_it_is_never_there_twice() -> None:
    answer, _ = ask({"x-correlation-id": "theirs"}, "/own")
    assert answer.headers.get_list("x-correlation-id") == ["mine"]


def test_a_public_edge_starts_a_new_trace_with_a_link_and_drops_baggage() -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "baggage": "connectsoft.tenant.id=acme"}
    answer, seen = ask(headers, trust_inbound=False)
    trace_id, above = parent(seen)
    assert trace_id != TRACE
    assert above is None
    [link] = seen.spans[0].links
    assert f"{link.context.trace_id:032x}" == TRACE
    assert "baggage" not in answer.json()
    assert "connectsoft.tenant.id" not in (seen.spans[0].attributes or {})


def test_a_cached_list_of_response_headers_is_never_written_to() -> None:
    cached = [(b"content-type", b"text/plain")]
    message = {"type": "http.response.start", "status": 200, "headers": cached}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(message)
        await send({"type": "http.response.body", "body": b"x"})

    with capture():
        client = TestClient(obs.ObservabilityMiddleware(app, service="a"))
        answers = [client.get("/") for _ in range(3)]
    assert cached == [(b"content-type", b"text/plain")]
    assert message["headers"] is cached
    assert all(len(answer.headers.get_list("x-correlation-id")) == 1 for answer in answers)


def test_extract_is_the_counterpart_of_inject() -> None:
    with capture() as seen:
        with obs.operation("sender"):
            headers: dict[str, str] = {}
            obs.inject(headers)
        carried = obs.extract({key.encode(): value for key, value in headers.items()} | {"n": 7})
        with obs.operation("receiver", parent=carried):
            pass
    sender, receiver = seen.spans
    sent = sender.get_span_context()
    assert receiver.parent is not None
    assert sent is not None
    assert receiver.parent.span_id == sent.span_id
    assert receiver.parent.is_remote


def test_an_instrumented_client_sends_the_correlation_id_too() -> None:
    with capture(), obs.operation("caller") as run:
        run.correlation_id = "business-7"
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context=baggage.set_baggage("a", "b"))
        assert carrier["X-Correlation-Id"] == "business-7"
        assert carrier["traceparent"].split("-")[1] == f"{trace.get_current_span().get_span_context().trace_id:032x}"

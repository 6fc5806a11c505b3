"""Span attributes follow the HTTP semantic conventions; values sent by clients do not increase cardinality."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.asgi.forwarded import ForwardedHeaders
from connectsoft_obs.redaction import DEFAULT_POLICY
from connectsoft_obs.settings import load_settings
from connectsoft_obs.testing import capture


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello", headers={"x-answer": "42", "set-cookie": "a=b"})


def create_client(**options: Any) -> TestClient:
    app = Starlette(routes=[Route("/hello/{name}", hello)])
    app.add_middleware(obs.ObservabilityMiddleware, service="attributes", **options)
    return TestClient(app, client=options.pop("peer", ("10.0.0.9", 5555)))


def span_attributes(method: str = "GET", path: str = "/hello/a", headers: Any = None, **options: Any) -> dict[str, Any]:
    with capture() as captured:
        create_client(**options).request(method, path, headers=headers)
    return dict(captured.spans[0].attributes or {})


@pytest.mark.parametrize(
    ("method", "recorded", "original", "name"),
    [
        ("GET", "GET", None, "GET /hello/{name}"),
        ("QUERY", "QUERY", None, "QUERY /hello/{name}"),
        ("FOO", "_OTHER", "FOO", "HTTP /hello/{name}"),
        ("get", "_OTHER", "get", "HTTP /hello/{name}"),
    ],
)
def test_unknown_method_is_recorded_as_other(method: str, recorded: str, original: str | None, name: str) -> None:
    with capture() as captured:
        app = obs.ObservabilityMiddleware(
            Starlette(routes=[Route("/hello/{name}", hello)]), service="a", route=lambda _: "/hello/{name}"
        )
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": "/hello/a", "headers": [], "query_string": b""}
        asyncio.run(app(scope, None, send))  # type: ignore[arg-type]
    attributes = dict(captured.spans[0].attributes or {})
    assert attributes["http.request.method"] == recorded
    assert attributes.get("http.request.method_original") == original
    assert captured.spans[0].name == name


def test_known_methods_variable_replaces_the_default_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "GET")
    assert span_attributes("GET")["http.request.method"] == "GET"
    assert span_attributes("POST")["http.request.method"] == "_OTHER"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("page=2", "page=2"),
        ("sig=abc&page=2", "sig=REDACTED&page=2"),
        ("Sig=abc", "Sig=abc"),
        ("X-Amz-Signature=a&X-Amz-Credential=b&X-Goog-Signature=c", "X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&X-Goog-Signature=REDACTED"),
        ("access_token=abc&ACCESS_TOKEN=d", "access_token=REDACTED&ACCESS_TOKEN=REDACTED"),
        ("api_key=a&apikey=b&api-key=c&key=d", "api_key=REDACTED&apikey=REDACTED&api-key=REDACTED&key=REDACTED"),
        ("password=a&client_secret=b&code=c", "password=REDACTED&client_secret=REDACTED&code=REDACTED"),
        ("%74oken=abc", "%74oken=REDACTED"),
        ("keyword=a&zipcode=b&monkey=c", "keyword=a&zipcode=b&monkey=c"),
        ("token", "token"),
        ("a=b=c&&=", "a=b=c&&="),
    ],
)  # fmt: skip
def test_redact_query_replaces_only_secret_values(query: str, expected: str) -> None:
    assert DEFAULT_POLICY.redact_query(query.encode()) == expected


@given(st.binary(max_size=200))
def test_redact_query_handles_any_bytes(data: bytes) -> None:
    query = data.replace(b"&", b"") + b"&token=PLANTED&x=1"
    assert "PLANTED" not in DEFAULT_POLICY.redact_query(query)
    assert DEFAULT_POLICY.redact_query(b"a=" + data, frozenset()).startswith("a=")


def test_allowlisted_query_key_is_not_redacted() -> None:
    assert (
        span_attributes(path="/hello/a?code=E42&token=x", url_query_allowlist="code")["url.query"]
        == "code=E42&token=REDACTED"
    )


def test_url_query_is_absent_without_query() -> None:
    assert "url.query" not in span_attributes()


PROXY = {
    "x-forwarded-for": "203.0.113.7, 10.0.0.3",
    "x-forwarded-host": "api.example:8443",
    "x-forwarded-proto": "https",
}


def test_forwarded_headers_of_untrusted_peer_are_ignored() -> None:
    attributes = span_attributes(headers=PROXY)
    assert attributes["client.address"] == "10.0.0.9"
    assert attributes["server.address"] == "testserver"
    assert attributes["url.scheme"] == "http"


def test_forwarded_headers_of_trusted_proxy_are_used() -> None:
    attributes = span_attributes(headers=PROXY, trusted_proxies="10.0.0.0/8")
    assert attributes["client.address"] == "203.0.113.7"
    assert (attributes["server.address"], attributes["server.port"]) == ("api.example", 8443)
    assert attributes["url.scheme"] == "https"
    assert (attributes["network.peer.address"], attributes["network.peer.port"]) == ("10.0.0.9", 5555)


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({b"x-forwarded-for": b"1.1.1.1, 2.2.2.2"}, "2.2.2.2"),  # the rightmost one that is not a trusted proxy
        ({b"x-forwarded-for": b"evil, 2.2.2.2"}, "2.2.2.2"),
        ({b"x-forwarded-for": b"1.1.1.1, evil"}, None),
        ({b"x-forwarded-for": b"[2001:db8::1]:443"}, "2001:db8::1"),
        ({b"x-forwarded-for": b"2001:db8::1"}, "2001:db8::1"),
        ({b"x-forwarded-for": b"1.2.3.4:5678"}, "1.2.3.4"),
        ({b"forwarded": b'for="[2001:db8::2]:80";proto=https;host=a.example'}, "2001:db8::2"),
        ({b"forwarded": b"for=1.1.1.1, for=3.3.3.3;by=10.0.0.1"}, "3.3.3.3"),
        ({b"forwarded": b"for=_hidden"}, None),
        ({b"x-forwarded-for": b"10.0.0.1, 10.0.0.2"}, "10.0.0.1"),
        ({}, None),
    ],
)
def test_client_is_the_rightmost_address_that_is_not_a_trusted_proxy(headers: Any, address: str | None) -> None:
    forwarded = ForwardedHeaders(load_settings({}, trusted_proxies="10.0.0.0/8").trusted_proxies)
    assert forwarded.read("10.9.9.9", headers).client == address


@given(
    st.dictionaries(st.sampled_from([b"forwarded", b"x-forwarded-for", b"x-forwarded-host"]), st.binary(max_size=400))
)
def test_forwarded_headers_with_any_bytes_do_not_raise(headers: dict[bytes, bytes]) -> None:
    forwarded = ForwardedHeaders(load_settings({}, trusted_proxies="*").trusted_proxies)
    info = forwarded.read("127.0.0.1", headers)
    assert info.client is None or "." in info.client or ":" in info.client


def test_only_listed_headers_are_captured_and_secrets_are_redacted() -> None:
    assert not [key for key in span_attributes(headers={"x-team": "red"}) if ".header." in key]
    attributes = span_attributes(
        headers=[("x-team", "red"), ("x-team", "blue"), ("Authorization", "Bearer abc"), ("x-secret", "s")],
        request_headers="X-Team,authorization,x-secret",
        response_headers="x-answer,set-cookie",
        sanitized_headers="x-secret",
    )
    assert list(attributes["http.request.header.x-team"]) == ["red", "blue"]
    assert list(attributes["http.request.header.authorization"]) == ["REDACTED"]
    assert list(attributes["http.request.header.x-secret"]) == ["REDACTED"]
    assert list(attributes["http.response.header.x-answer"]) == ["42"]
    assert list(attributes["http.response.header.set-cookie"]) == ["REDACTED"]


def test_captured_header_values_are_limited() -> None:
    attributes = span_attributes(headers={"x-team": "r" * 9000}, request_headers="x-team")
    assert list(attributes["http.request.header.x-team"]) == ["r" * 8192]


def send_requests_to_routes(count: int, times: int = 1, **settings: Any) -> None:
    """Send requests to an application whose route function returns a different template for each of `count` paths."""

    async def send(_: Any) -> None:
        return None

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def main() -> None:
        app = obs.ObservabilityMiddleware(respond, service="routes", route=lambda scope: scope["path"], **settings)
        for number in range(count * times):
            scope: dict[str, Any] = {"type": "http", "method": "GET", "path": f"/{number % count}", "headers": [], "scheme": "http",
                     "http_version": "1.1", "query_string": b"", "client": None}  # fmt: skip
            await app(scope, None, send)  # type: ignore[arg-type]

    asyncio.run(main())


def test_each_request_beyond_the_cardinality_limit_is_counted() -> None:
    with capture() as captured:
        send_requests_to_routes(20, times=3, cardinality_limit=5)
        duration_name = "http.server.request.duration"
        duration = captured.metric(duration_name)
        assert (duration.count, len(duration.series)) == (60, 6)
        assert captured.metric("connectsoft.obs.overflow", connectsoft_obs_metric=duration_name).value == 3 * 15
        assert captured.metric("http.server.request.duration", http_route="").count == 3 * 15
        assert captured.metric("http.server.request.duration", http_route="/4").count == 3


def bound_series() -> list[Any]:
    """The cached series of all applications of this process."""
    return [item for item in gc.get_objects() if type(item).__name__ == "BoundSeries"]


def test_memory_for_routes_is_bounded() -> None:
    existing = bound_series()  # of earlier tests; the references keep their ids in use
    existing_ids = {id(item) for item in existing}
    with capture():
        send_requests_to_routes(5000, cardinality_limit=10_000)
        created = [item for item in bound_series() if id(item) not in existing_ids]
        assert 0 < len(created) <= 4100


def test_custom_sampler_receives_the_standard_attributes() -> None:
    sampled: list[dict[str, Any]] = []

    class CustomSampler(Sampler):
        def should_sample(
            self,
            parent_context: Any,
            trace_id: int,
            name: str,
            kind: Any = None,
            attributes: Any = None,
            links: Any = None,
            trace_state: Any = None,
        ) -> SamplingResult:
            sampled.append(dict(attributes or {}))
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

        def get_description(self) -> str:
            return "custom"

    attributes = span_attributes(
        path="/hello/a?x=1", headers={"x-team": "red"}, sampler=CustomSampler(), request_headers="x-team"
    )
    [start_attributes] = sampled
    expected = {
        "client.address",
        "http.request.method",
        "server.address",
        "url.path",
        "url.query",
        "url.scheme",
        "user_agent.original",
        "http.request.header.x-team",
    }
    assert expected <= start_attributes.keys()
    assert attributes["http.route"] == "/hello/{name}"


def test_tenant_header_is_read_only_if_configured() -> None:
    headers = {"x-tenant-id": "acme"}
    assert "connectsoft.tenant.id" not in span_attributes(headers=headers)
    assert span_attributes(headers=headers, tenant_header="X-Tenant-Id")["connectsoft.tenant.id"] == "acme"


def test_hostile_requests_do_not_increase_cardinality() -> None:
    random_source = random.Random(1)
    app = Starlette(routes=[Route("/hello/{name}", hello)])
    app.add_middleware(obs.ObservabilityMiddleware, service="attributes", trusted_proxies="*")

    async def send(_: Any) -> None:
        return None

    async def send_requests() -> None:
        for number in range(10_000):
            scope = {
                "type": "http",
                "method": f"M{number}" if number % 2 else random_source.choice(["GET", "POST"]),
                "path": random_source.choice([f"/hello/{number}", f"/other/{number}"]),
                "query_string": b"q=%d" % number,
                "scheme": random_source.choice(["http", f"s{number}"]),
                "http_version": random_source.choice(["1.1", f"{number}"]),
                "headers": [
                    (b"host", b"h%d.example:%d" % (number, number % 65536)),
                    (b"user-agent", b"agent-%d" % number),
                    (b"x-forwarded-for", b"1.2.%d.%d" % (number % 256, number % 251)),
                    (b"x-correlation-id", b"id-%d" % number),
                    (b"baggage", b"connectsoft.tenant.id=t%d" % number),
                ],
                "client": (f"10.0.{number % 256}.{number // 256}", 1),
            }
            await app(scope, None, send)  # type: ignore[arg-type]

    with capture() as captured:
        asyncio.run(send_requests())
    series = captured.metric("http.server.request.duration").series
    # at most 3 methods x 2 schemes x 2 versions x 3 statuses (200, 404, 405)
    assert len(series) <= 36, len(series)
    assert captured.metric("http.server.request.duration").count == 10_000
    values = {value for labels in series for value in labels.values()}
    assert not [
        value for value in values if value[-1].isdigit() and value not in ("200", "404", "405", "1.1", "2", "3")
    ]


def test_error_type_values_are_limited() -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise type(scope["path"][1:] or "E", (Exception,), {"__module__": "app"})

    app = obs.ObservabilityMiddleware(fail, service="a")
    with capture() as captured:
        client = TestClient(app, raise_server_exceptions=False)
        for number in range(60):
            client.get(f"/E{number}")
    errors = {labels.get("error_type") for labels in captured.metric("http.server.request.duration").series}
    assert len(errors) == 51
    assert "_OTHER" in errors

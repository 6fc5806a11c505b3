"""One corpus of secrets, run against every sink: no sink shows a secret.

A sink is a function that passes samples through the public API and returns, by sample, what an operator or a client can
see. All sinks have the same assertion.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from support.app_insights_server import AppInsightsServer
from support.otlp import GrpcSink, HttpSink, ReceivedTelemetry
from support.process import wait_for
from support.scripts import run_script

import connectsoft_obs as obs
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing import Captured, capture
from connectsoft_obs.testing.telemetry_capture import CapturingLogWriter

DETAILS_TOKEN = "details-token-of-the-test"


class Sample(NamedTuple):
    """A secret in the form in which applications and clients pass it.

    `key` is the name of a header, field or parameter, or "" for free text. `text` is the same in a sentence.
    """

    kind: str
    key: str
    value: str
    text: str
    secret: str

    @property
    def name(self) -> str:
        """Identifies the sample in assertion messages, without the secret."""
        return f"{self.kind} {self.key or self.text.replace(self.secret, '...')[:40]!r}"


def header(key: str, value: str, secret: str) -> Sample:
    return Sample("header", key, value, f"sent {key}: {value}", secret)


def assignment(key: str, value: str) -> Sample:
    return Sample("assignment", key, value, f"called with {key}={value} and retries=3", value)


def free_text(text: str, secret: str) -> Sample:
    return Sample("text", "", text, f"failed: {text} (attempt 2)", secret)


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAs3cr3t\nabcd\n-----END RSA PRIVATE KEY-----"
CARD_NUMBER = "4111 1111 1111 1111"
GITHUB_TOKEN = "ghp_s3cr3t0123456789abcdefABCDEF01234567"
ACCOUNT_KEY = "czNjcjN0czNjcjN0czNjcjN0czNjcjN0czNjcjN0czNjcjN0=="

CORPUS = [
    header("Authorization", "Bearer s3cr3t", "s3cr3t"),
    header("Authorization", "Basic dXNlcjpzM2NyM3Q=", "dXNlcjpzM2NyM3Q"),
    header("Proxy-Authorization", "Basic cHJveHk6czNjcjN0", "cHJveHk6czNjcjN0"),
    header("Cookie", "session=s3cr3t-session; theme=dark", "s3cr3t-session"),
    header("Set-Cookie", "session=s3cr3t-session; Path=/; HttpOnly", "s3cr3t-session"),
    *(
        header(key, f"s3cr3t-{key.lower()}-0123456789", f"s3cr3t-{key.lower()}")
        for key in (
            "X-Api-Key", "Ocp-Apim-Subscription-Key", "x-goog-api-key", "X-Functions-Key", "x-amz-security-token",
            "x-access-token", "X-Auth-Token",
        )
    ),
    *(
        assignment(key, f"s3cr3t-{key.lower()}")
        for key in (
            "password", "passphrase", "pwd", "client_secret", "AccountKey", "SharedAccessKey", "account_key",
            "connection_string", "private_key", "access_token", "api_key", "jwt",
        )
    ),
    assignment("cvv", "7351"),
    assignment("card_number", "s3cr3t-card-number"),
    free_text("postgresql://app:s3cr3t-pw@db/orders", "s3cr3t-pw"),
    free_text("redis://:s3cr3t-pw@cache:6379/0", "s3cr3t-pw"),
    free_text("mysql://app:p@s3cr3t-pw@db/orders", "s3cr3t-pw"),
    free_text("amqp://user:s3cr3t-pw@broker//", "s3cr3t-pw"),
    free_text("amqp://user:s3cr3t/p#w?1@broker//", "s3cr3t/p#w?1"),
    free_text(f"https://{GITHUB_TOKEN}@github.com/acme/shop.git", GITHUB_TOKEN),
    free_text(JWT, JWT.rpartition(".")[2]),
    free_text(PRIVATE_KEY, "MIIEpAIBAAKCAQEAs3cr3t"),
    free_text(CARD_NUMBER, CARD_NUMBER),
    free_text(CARD_NUMBER.replace(" ", ""), CARD_NUMBER.replace(" ", "")),
    free_text(f"AccountName=shop;AccountKey={ACCOUNT_KEY};EndpointSuffix=core.windows.net", ACCOUNT_KEY.rstrip("=")),
    free_text("Endpoint=sb://x.net/;SharedAccessKeyName=root;SharedAccessKey=s3cr3t-sak=", "s3cr3t-sak"),
    free_text("Server=db;User Id=app;Password=s3cr3t p@ss;Timeout=3", "s3cr3t p@ss"),
    free_text('{"client_secret": "s3cr3t-json", "grant_type": "x"}', "s3cr3t-json"),
    free_text("GET /blob?sv=1&sig=s3cr3t-sig%3D&se=2", "s3cr3t-sig"),
]  # fmt: skip

Shown = dict[str, str]
"""What a sink shows, by name of the sample."""


def by_sample(samples: Sequence[Sample], show: Callable[[Sample], object]) -> Shown:
    return {f"{number} {sample.name}": str(show(sample)) for number, sample in enumerate(samples)}


# --- Log records -----------------------------------------------------------------------------------------------------


def log_lines(samples: Sequence[Sample], log: Callable[[Sample], None]) -> Shown:
    """The log lines that each sample causes."""

    def show(sample: Sample) -> str:
        with capture() as captured:
            log(sample)
        assert captured.logs, "nothing was logged"
        return json.dumps(captured.logs, ensure_ascii=False)

    return by_sample(samples, show)


def log_field(samples: Sequence[Sample]) -> Shown:
    return log_lines(
        samples, lambda sample: obs.get_logger("app").info("event", **{sample.key or "note": sample.value})
    )


def log_field_with_text(samples: Sequence[Sample]) -> Shown:
    return log_lines(samples, lambda sample: obs.get_logger("app").info("event", note=sample.text))


def log_message(samples: Sequence[Sample]) -> Shown:
    return log_lines(samples, lambda sample: obs.get_logger("app").info(sample.text))


def stdlib_log_message(samples: Sequence[Sample]) -> Shown:
    return log_lines(samples, lambda sample: logging.getLogger("library").warning("it %s", sample.text))


def log_nested_value(samples: Sequence[Sample]) -> Shown:
    def log(sample: Sample) -> None:
        key = sample.key or "note"
        obs.get_logger("app").info(
            "event",
            payload={"outer": [{key: sample.value}, sample.text]},
            headers=[(key.encode(), sample.value.encode())],
        )

    return log_lines(samples, log)


def log_exception(samples: Sequence[Sample]) -> Shown:
    def log(sample: Sample) -> None:
        try:
            try:
                raise ValueError(sample.text)
            except ValueError as error:
                raise RuntimeError(f"cannot connect: {sample.text}") from error
        except RuntimeError:
            obs.get_logger("app").exception("failed")

    shown = log_lines(samples, log)
    assert all("exception.stacktrace" in text and "exception.message" in text for text in shown.values())
    return shown


# --- Spans -----------------------------------------------------------------------------------------------------------


def span_content(captured: Captured) -> str:
    """Attributes, events and status of all spans."""
    assert captured.spans, "there is no span"
    return "".join(span.to_json() for span in captured.spans)


def bound_span_attribute(samples: Sequence[Sample]) -> Shown:
    def show(sample: Sample) -> str:
        with capture() as captured, obs.operation("import-orders"):
            obs.bind(**{sample.key or "note": sample.value, "other": sample.text})
        return span_content(captured)

    return by_sample(samples, show)


def span_of_a_failed_operation(samples: Sequence[Sample]) -> Shown:
    def show(sample: Sample) -> str:
        with capture() as captured, pytest.raises(RuntimeError), obs.operation("import-orders"):
            raise RuntimeError(sample.text)
        return span_content(captured)

    return by_sample(samples, show)


def exchange_headers(samples: Sequence[Sample], *, in_response: bool) -> Shown:
    def show(sample: Sample) -> str:
        async def endpoint(_: Request) -> Response:
            return PlainTextResponse("", headers={sample.key: sample.value} if in_response else None)

        app = Starlette(routes=[Route("/", endpoint)])
        settings: dict[str, Any] = {"response_headers" if in_response else "request_headers": (sample.key,)}
        app.add_middleware(obs.ObservabilityMiddleware, service="corpus", **settings)
        with capture() as captured, TestClient(app) as client:
            client.get("/", headers=None if in_response else {sample.key: sample.value})
        span = span_content(captured)
        assert f".header.{sample.key.lower()}" in span, "the header was not captured"
        return span

    return by_sample(samples, show)


def captured_request_header(samples: Sequence[Sample]) -> Shown:
    return exchange_headers(samples, in_response=False)


def captured_response_header(samples: Sequence[Sample]) -> Shown:
    return exchange_headers(samples, in_response=True)


def url_query(samples: Sequence[Sample]) -> Shown:
    def show(sample: Sample) -> str:
        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse(""))])
        app.add_middleware(obs.ObservabilityMiddleware, service="corpus")
        with capture() as captured, TestClient(app) as client:
            client.get("/", params={sample.key: sample.value, "page": "2"})
        [span] = captured.spans
        assert "page=2" in str((span.attributes or {})["url.query"])
        return span_content(captured) + json.dumps(captured.logs)

    return by_sample(samples, show)


# --- Spans of other libraries, as exporters send them -----------------------------------------------------------------


def record_external_spans(telemetry: Telemetry, samples: Sequence[Sample]) -> list[str]:
    """A span of another library for each sample, which is in every part of the span; their trace ids."""
    tracer = telemetry.tracing.provider.get_tracer("client-library")
    trace_ids = []
    for sample in samples:
        key = sample.key or "note"
        attributes: dict[str, Any] = {
            key: sample.value,
            "values": [sample.text, sample.text],
            "marker": "part of the span",
        }
        if sample.key:
            query = urlencode({sample.key: sample.value, "page": "2"})
            attributes |= {"url.query": query}
            attributes |= dict.fromkeys(("url.full", "http.url"), f"https://shop.example/orders?{query}#{query}")
            attributes |= {
                "http.target": f"/orders?{query}",
                "db.query.text": f"SELECT 1 WHERE {key} = '{sample.value}'",
            }
        span = tracer.start_span(f"call {sample.text}", Context(), SpanKind.CLIENT, attributes)
        span.add_event(f"event {sample.text}", {key: sample.value})
        span.add_link(SpanContext(1, 2, True), {key: sample.value, "text": sample.text})
        try:
            raise ValueError(sample.text)
        except ValueError as error:
            span.record_exception(error)
        span.set_status(StatusCode.ERROR, sample.text)
        span.end()
        trace_ids.append(f"{span.get_span_context().trace_id:032x}")
    return trace_ids


def exported_spans(samples: Sequence[Sample], received: Callable[[], dict[str, str]], **settings: Any) -> Shown:
    """What a server receives about each sample; `received` returns it by trace id."""
    loaded = load_settings({}, service="corpus", metrics_exporter="none", logs_exporter="none", **settings)
    telemetry = Telemetry(loaded, output=CapturingLogWriter(Captured()), exports=True)
    trace_ids = record_external_spans(telemetry, samples)
    assert telemetry.shutdown(20)
    by_trace_id = received()
    assert all("part of the span" in by_trace_id[trace_id] for trace_id in trace_ids)
    shown = iter(trace_ids)
    return by_sample(samples, lambda _: by_trace_id[next(shown)])


def span_over_otlp_http(samples: Sequence[Sample]) -> Shown:
    with HttpSink() as sink:
        return exported_spans(samples, lambda: spans_by_trace_id(sink.received), otlp_endpoint=sink.url)


def span_over_otlp_grpc(samples: Sequence[Sample]) -> Shown:
    with GrpcSink() as sink:
        received = sink.received
        return exported_spans(
            samples, lambda: spans_by_trace_id(received), otlp_endpoint=sink.url, otlp_protocol="grpc"
        )


def span_in_application_insights(samples: Sequence[Sample]) -> Shown:
    def received() -> dict[str, str]:
        by_trace_id: dict[str, str] = {}
        for envelope in azure.envelopes:
            trace_id = envelope["tags"].get("ai.operation.id", "")
            by_trace_id[trace_id] = by_trace_id.get(trace_id, "") + json.dumps(envelope)
        return by_trace_id

    with AppInsightsServer() as azure:
        return exported_spans(samples, received, azure_connection_string=azure.connection_string)


def spans_by_trace_id(received: ReceivedTelemetry) -> dict[str, str]:
    return {span.trace_id.hex(): str(span) for span in received.spans}


# --- Health pages ----------------------------------------------------------------------------------------------------


def health_pages(samples: Sequence[Sample], path: str) -> Shown:
    """The page of a health check that fails with each sample as its reason, for holders of the details token."""

    def show(sample: Sample) -> str:
        app = Starlette()
        app.add_middleware(obs.ObservabilityMiddleware, service="corpus", details_token=DETAILS_TOKEN)
        with capture():

            @obs.readiness_check("dependency", critical=False)
            def dependency() -> None:
                raise ConnectionError(sample.text)

            with TestClient(app, headers={"authorization": f"Bearer {DETAILS_TOKEN}"}) as client:
                wait_for(lambda: "ConnectionError" in client.get(path).text, 5, "the check has failed")
                return client.get(path).text

    return by_sample(samples, show)


def health_page(samples: Sequence[Sample]) -> Shown:
    return health_pages(samples, "/health")


def verbose_health_page(samples: Sequence[Sample]) -> Shown:
    return health_pages(samples, "/health/ready?verbose")


# --- Configuration errors and standard error -------------------------------------------------------------------------


def error_of(**arguments: Any) -> str:
    """Text of the ConfigurationError for these settings; "" if they are valid."""
    try:
        with capture(**arguments):
            pass
    except obs.ConfigurationError as error:
        return str(error)
    return ""


def url_with_password(sample: Sample, scheme: str) -> str:
    """A URL with the secret as its password; only what a URL cannot contain is encoded."""
    return f"{scheme}://user:{quote(sample.secret, safe='@+=:;&%')}@collector"


def configuration_error(samples: Sequence[Sample]) -> Shown:
    """Each sample as the value of settings that it is invalid for."""

    def show(sample: Sample) -> str:
        pair = f"{sample.key}: {sample.value}" if sample.key else sample.text
        errors = [
            error_of(otlp_headers=pair.replace("=", "")),
            error_of(otlp_headers={sample.key or "key": sample.value, 1: "x"}),
            error_of(metrics_token=sample.value.encode()),
            error_of(details_token=[sample.value]),
            error_of(azure_connection_string=sample.value.encode()),
            error_of(otlp_endpoint=f"ftp://{sample.text}"),
            error_of(otlp_endpoint=url_with_password(sample, "ftp")),
            error_of(resource_attributes=f"{sample.text},broken"),
            error_of(resource_attributes={sample.key or "key": sample.value, 1: "x"}),
            error_of(log_level=sample.text),
            error_of(log_levels=f"orders={sample.text}"),
            error_of(trusted_proxies=sample.text),
            error_of(sample_rate=sample.text),
            error_of(**{sample.key.lower() or "note": sample.value}),
        ]
        assert sum(map(bool, errors)) >= 8, "the settings are valid"
        return "\n".join(errors)

    return by_sample(samples, show)


def conflicting_configuration(samples: Sequence[Sample]) -> Shown:
    """The error of a second application with other settings than the first."""

    def show(sample: Sample) -> str:
        endpoint = url_with_password(sample, "https")
        name = sample.key or "note"
        first: dict[str, Any] = {
            "details_token": f"{sample.value}-first-token",
            "metrics_token": f"{sample.value}-first-token",
            "log_tenant_key": f"{sample.value}-first",
            "azure_connection_string": f"InstrumentationKey={sample.value}-first",
            "otlp_endpoint": endpoint,
            "otlp_headers": {"x-acme": f"{sample.value}-first"},
            "otlp_overrides": {"traces": {"otlp_headers": {"x-acme": f"{sample.value}-first"}}},
            "resource_attributes": {"team": "shop"},
        }
        second: dict[str, Any] = {
            "details_token": f"{sample.value}-second-token",
            "metrics_token": f"{sample.value}-second-token",
            "log_tenant_key": f"{sample.value}-second",
            "azure_connection_string": f"InstrumentationKey={sample.value}-second",
            "otlp_endpoint": f"{endpoint}-2",
            "otlp_headers": {"x-acme": f"{sample.value}-second"},
            "otlp_overrides": {"traces": {"otlp_headers": {"x-acme": f"{sample.value}-second"}}},
            "resource_attributes": {name: sample.value, "other": sample.text},
        }
        errors = []
        with capture():
            obs.configure(service="corpus", **first)
            for setting, value in second.items():
                app = obs.ObservabilityMiddleware(Starlette(), **{setting: value})
                with pytest.raises(obs.ConfigurationError, match=setting) as error, TestClient(app):
                    pass
                errors.append(str(error.value))
            with pytest.raises(obs.ConfigurationError) as error:
                obs.configure(service=f"other-{sample.value}", **second)
            errors.append(str(error.value).replace(f"other-{sample.value}", "other"))  # a name is not a secret
            errors.append(repr(obs.configure(service="corpus", **second).settings))
        return "\n".join(errors)

    return by_sample(samples, show)


def output_of_starts_with_wrong_variables(samples: Sequence[Sample]) -> Shown:
    """All that a process prints about environment variables that are wrong, and about an endpoint with a password."""
    code = """
import json, os, sys
os.dup2(2, 1)
import connectsoft_obs as obs
general = {**os.environ}
for number, environment in enumerate(json.load(sys.stdin)):
    os.environ.clear()
    os.environ.update({**general, **environment})
    print("start", file=sys.stderr)
    try:
        telemetry = obs.configure(service="corpus", resource_attributes={"number": str(number)})
        if environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").endswith("@127.0.0.1:1"):
            with obs.operation("import-orders"):
                pass
            telemetry.flush(0.1)
            telemetry.shutdown(0.01)
    except obs.ConfigurationError as error:
        print(error, repr(error), file=sys.stderr)
    print("--- next ---", file=sys.stderr)
"""

    def environments(sample: Sample) -> list[dict[str, str]]:
        pair = f"{sample.key}: {sample.value}" if sample.key else sample.text.replace("\n", " ")
        value = sample.value.replace("\n", " ")
        return [
            {
                "OTEL_EXPORTER_OTLP_HEADERS": pair.replace("=", ""),
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"x-acme={value},broken",
                "OTEL_EXPORTER_OTLP_ENDPOINT": url_with_password(sample, "htps"),
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": url_with_password(sample, "ftp"),
                "OTEL_TRACES_SAMPLER_ARG": sample.text,
                "OTEL_RESOURCE_ATTRIBUTES": f"{sample.text},broken",
                "LOG_LEVEL": sample.text,
            },
            {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{quote(sample.secret, safe='')}@127.0.0.1:1"},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{quote(sample.secret, safe='')}@127.0.0.1:port"},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{sample.secret}/{sample.secret}@127.0.0.1:1"},
            {"OTEL_EXPORTER_OTLP_ENDPOINT": f"user:{sample.secret}#{sample.secret}@127.0.0.1:1"},
            {"APPLICATIONINSIGHTS_CONNECTION_STRING": f"InstrumentationKey={value};;broken"},
            {"CONNECTSOFT_OBS_METRICS_TOKEN": value[:7]},
            {"CONNECTSOFT_OBS_DETAILS_TOKEN": value[:7]},
            {"CONNECTSOFT_OBS_LOG_PROFILE": sample.text},
            {f"CONNECTSOFT_OBS_{sample.key.upper().replace('-', '_') or 'NOTE'}": value},
        ]

    inputs = [environment for sample in samples for environment in environments(sample)]
    return split_stderr(code, samples, len(inputs) // len(samples), inputs)


def stderr_of_an_invalid_configuration(samples: Sequence[Sample]) -> Shown:
    """What a service without lifespan support prints when its settings are invalid."""
    code = """
import json, sys
import connectsoft_obs as obs
from starlette.applications import Starlette
from starlette.testclient import TestClient
for text in json.load(sys.stdin):
    for arguments in ({"otlp_headers": text.replace("=", "")}, {"otlp_endpoint": f"ftp://{text}"}):
        app = Starlette()
        app.add_middleware(obs.ObservabilityMiddleware, service="corpus", telemetry=None, **arguments)
        TestClient(app).get("/")
        print("--- next ---", file=sys.stderr)
"""
    return split_stderr(code, samples, 2)


def stderr_of_the_console_exporter(samples: Sequence[Sample]) -> Shown:
    code = """
import json, sys
import connectsoft_obs as obs
telemetry = obs.configure(service="corpus", traces_exporter="console")
for text in json.load(sys.stdin):
    with obs.operation("import-orders"):
        obs.bind(note=text)
    telemetry.flush(5)
    print("--- next ---", file=sys.stderr)
"""
    return split_stderr(code, samples, 1)


def span_of_another_library_on_the_console(samples: Sequence[Sample]) -> Shown:
    code = """
import json, sys
import connectsoft_obs as obs
from opentelemetry import trace
telemetry = obs.configure(service="corpus", traces_exporter="console")
for text in json.load(sys.stdin):
    trace.get_tracer("client-library").start_span("call", attributes={"note": text}).end()
    telemetry.flush(5)
    print("--- next ---", file=sys.stderr)
"""
    return split_stderr(code, samples, 1)


def split_stderr(
    code: str, samples: Sequence[Sample], parts_per_sample: int, inputs: Sequence[object] | None = None
) -> Shown:
    """Run a script that reads the inputs, by default the texts, and separates what it prints about each of them."""
    content = json.dumps([sample.text for sample in samples] if inputs is None else inputs)
    result = run_script(f"import io, sys\nsys.stdin = io.StringIO({content!r})\n{code}")
    assert result.exit_code == 0, result.stderr[-2000:]
    parts = result.stderr.split("--- next ---\n")[:-1]
    assert len(parts) == len(samples) * parts_per_sample
    assert all(parts), "nothing was printed"
    shown = iter(zip(*[iter(parts)] * parts_per_sample, strict=True))
    return by_sample(samples, lambda _: "\n".join(next(shown)))


SINKS: list[Callable[[Sequence[Sample]], Shown]] = [
    log_field,
    log_field_with_text,
    log_message,
    stdlib_log_message,
    log_nested_value,
    log_exception,
    bound_span_attribute,
    span_of_a_failed_operation,
    captured_request_header,
    captured_response_header,
    url_query,
    span_over_otlp_http,
    span_over_otlp_grpc,
    span_in_application_insights,
    span_of_another_library_on_the_console,
    health_page,
    verbose_health_page,
    configuration_error,
    conflicting_configuration,
    output_of_starts_with_wrong_variables,
    stderr_of_an_invalid_configuration,
    stderr_of_the_console_exporter,
]

NOT_APPLICABLE = {
    "captured_request_header": {"assignment": "headers are redacted by name", "text": "headers are redacted by name"},
    "captured_response_header": {"assignment": "headers are redacted by name", "text": "headers are redacted by name"},
    "url_query": {"text": "query parameters are redacted by name"},
}
"""Kinds of samples that a sink cannot hold, with the reason."""


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink.__name__)
def test_no_sink_shows_a_secret(sink: Callable[[Sequence[Sample]], Shown]) -> None:
    skipped_kinds = NOT_APPLICABLE.get(sink.__name__, {})
    samples = [sample for sample in CORPUS if sample.kind not in skipped_kinds]
    shown = sink(samples)
    assert len(shown) == len(samples)
    leaks = {
        name: text[max(0, text.index(sample.secret) - 60) :][:160]
        for sample, (name, text) in zip(samples, shown.items(), strict=True)
        if sample.secret in text
    }
    assert leaks == {}

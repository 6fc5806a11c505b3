"""Invalid settings: they prevent the start or disable instrumentation, with one message, and never fail a request."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from support.asgi_server_commands import start_server
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.settings import implausible_variables, load_settings, unknown_variables
from connectsoft_obs.testing import capture


@pytest.mark.parametrize(
    ("server", "count"),
    [("uvicorn", 1), ("hypercorn-single-process", 1), ("granian", 2)],  # granian logs message and exception
)
def test_server_with_lifespan_does_not_start_and_reports_once(server: str, count: int) -> None:
    with start_server(server, "orders:app", env={"CONNECTSOFT_OBS_ACCESS_LOG": "loud"}) as service:
        assert service.process.wait(30) != 0
        wait_for(lambda: "loud" in service.output)
    assert service.output.count("CONNECTSOFT_OBS_ACCESS_LOG='loud': it is not one of all, errors, off") == count
    assert "CRITICAL" not in service.output
    assert "connectsoft_obs/settings" not in service.output
    assert "CancelledError" not in service.output


def test_invalid_setting_is_logged_if_the_server_ignores_the_failed_startup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        with pytest.raises(obs.ConfigurationError):
            await middleware({"type": "lifespan", "state": {}}, receive, send)
        for _ in range(3):
            await middleware({"type": "http", "path": "/", "headers": []}, receive, send)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        handled.append(scope["type"])

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None: ...

    handled: list[str] = []
    monkeypatch.setenv("CONNECTSOFT_OBS_ACCESS_LOG", "loud")
    with capture():
        middleware = obs.ObservabilityMiddleware(app, service="a", route="/orders")  # type: ignore[arg-type]
        asyncio.run(run())
    assert handled == ["http"] * 3
    assert capsys.readouterr().err.count("CRITICAL invalid configuration of connectsoft_obs") == 1


def test_server_without_lifespan_serves_without_instrumentation() -> None:
    env = {"CONNECTSOFT_OBS_ACCESS_LOG": "loud"}
    with uvicorn("orders:app", "--lifespan", "off", env=env) as service:
        service.wait_until_ready("/items/1")
        responses = [httpx.get(f"{service.url}/items/{number}") for number in range(20)]
        service.stop()
    assert {response.status_code for response in responses} == {200}
    assert "x-correlation-id" not in responses[0].headers
    assert service.output.count("CONNECTSOFT_OBS_ACCESS_LOG='loud'") == 1
    assert "CRITICAL" in service.output


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT", "-1", "not a number of at least 0"),
        ("CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT", "soon", "not a number"),
        ("CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT", "inf", "not a number of at least 0"),
        ("CONNECTSOFT_OBS_TRUSTED_PROXIES", "everyone", "not an IP network"),
        ("CONNECTSOFT_OBS_LIVENESS_PATH", "alive", "does not start with /"),
        ("CONNECTSOFT_OBS_ACCESS_LOG", "loud", "not one of all, errors, off"),
    ],
)
def test_invalid_value_is_rejected_with_reason_and_correction(name: str, text: str, why: str) -> None:
    with pytest.raises(obs.ConfigurationError) as raised:
        load_settings({name: text})
    assert f"{name}=" in str(raised.value)
    assert text in raised.value.given
    assert why in raised.value.why
    assert raised.value.instead


@pytest.mark.parametrize(
    ("text", "level"), [("WARN", "warning"), ("fatal", "critical"), ("Trace", "debug"), ("20", "info")]
)
def test_log_level_accepts_names_of_other_languages(text: str, level: str) -> None:
    assert load_settings({"LOG_LEVEL": text}).log_level == level


def test_invalid_argument_of_a_standard_setting_is_rejected() -> None:
    with pytest.raises(obs.ConfigurationError, match="not one of always_on"):
        load_settings({}, traces_sampler="sometimes")
    with pytest.raises(obs.ConfigurationError, match="cumulative"):
        load_settings({}, temporality="delta")


def test_secrets_are_not_in_the_error_message() -> None:
    with pytest.raises(obs.ConfigurationError) as raised:
        load_settings({"CONNECTSOFT_OBS_DETAILS_TOKEN": "short"})
    assert "short" not in raised.value.given


def test_environment_overrides_arguments_and_defaults() -> None:
    settings = load_settings({"CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT": "2"}, shutdown_timeout=9, cardinality_limit=7)
    assert (settings.shutdown_timeout, settings.cardinality_limit, settings.span_max_export_batch_size) == (2.0, 7, 512)


def test_empty_variable_counts_as_unset() -> None:
    assert load_settings({"OTEL_TRACES_SAMPLER": "", "OTEL_SERVICE_NAME": ""}, service="a").service == "a"


def test_resource_attributes_variable_overrides_arguments() -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=b,service.version=2,team=blue%20one"}
    settings = load_settings(environ, service="a", version="1", resource_attributes={"team": "red", "tier": "web"})
    assert (settings.service, settings.version) == ("b", "2")
    assert settings.resource_attributes["team"] == "blue one"
    assert settings.resource_attributes["tier"] == "web"
    assert load_settings({**environ, "OTEL_SERVICE_NAME": "c"}, service="a").service == "c"


def test_otel_variables_in_milliseconds_are_converted_to_seconds() -> None:
    settings = load_settings({"OTEL_BSP_SCHEDULE_DELAY": "250", "OTEL_METRIC_EXPORT_INTERVAL": "1000"})
    assert (settings.span_schedule_delay, settings.metric_interval) == (0.25, 1.0)


def test_unknown_variable_is_reported_with_a_similar_name() -> None:
    [message] = unknown_variables({"CONNECTSOFT_OBS_SHUTDOWN_TIMEOUTS": "1", "OTHER": "x"})
    assert "CONNECTSOFT_OBS_SHUTDOWN_TIMEOUTS" in message
    assert "did you mean CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT?" in message


@pytest.mark.parametrize(
    ("name", "correct"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPONT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OTLP_TRACE_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ("OTEL_SERVICENAME", "OTEL_SERVICE_NAME"),
        ("OTEL_TRACE_SAMPLER", "OTEL_TRACES_SAMPLER"),
    ],
)
def test_misspelled_standard_variable_is_reported(name: str, correct: str) -> None:
    [message] = unknown_variables({name: "1", "OTEL_BSP_EXPORT_TIMEOUT": "1", "OTEL_GO_X_OBSERVABILITY": "1"})
    assert message == f"unknown variable {name}; did you mean {correct}?"


def test_sampler_argument_without_a_ratio_sampler_is_reported() -> None:
    environ = {"OTEL_TRACES_SAMPLER_ARG": "0.1"}
    [warning] = implausible_variables(environ, load_settings(environ))
    assert "has no effect with the sampler parentbased_always_on" in warning
    environ["OTEL_TRACES_SAMPLER"] = "traceidratio"
    assert implausible_variables(environ, load_settings(environ)) == []


@pytest.mark.parametrize("is_explicit", [False, True])
def test_route_that_is_no_function_fails_the_startup(is_explicit: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[dict[str, Any]] = []
    telemetry = obs.Telemetry(load_settings({}, service="a"), exports=False) if is_explicit else None
    with capture():
        route: Any = "/orders/{id}"
        middleware = obs.ObservabilityMiddleware(app, service="a", telemetry=telemetry, route=route)
        with pytest.raises(obs.ConfigurationError):
            asyncio.run(middleware({"type": "lifespan", "state": {}}, receive, send))
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "route='/orders/{id}': it is not a function" in sent[0]["message"]


def test_unknown_variable_is_logged_as_one_warning() -> None:
    with uvicorn("orders:app", env={"CONNECTSOFT_OBS_DRAINDELAY": "1"}) as service:
        service.wait_until_ready()
        service.stop()
    [line] = [line for line in service.json_lines if "DRAINDELAY" in line["message"]]
    assert line["severity"] == "WARN"
    assert "CONNECTSOFT_OBS_DRAIN_DELAY" in line["message"]


def test_unknown_argument_is_rejected_with_a_similar_name() -> None:
    with pytest.raises(obs.ConfigurationError, match="Did you mean access_log"):
        load_settings({}, acces_log="all")

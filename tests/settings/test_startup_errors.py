"""What cannot work is said at start-up, on a real server, and never by a failing request."""

from __future__ import annotations

import httpx
import pytest
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.settings import load_settings, unknown_variables


def test_uvicorn_with_a_lifespan_refuses_to_start_and_says_why() -> None:
    with uvicorn("orders:app", "--lifespan", "auto", env={"OTEL_TRACES_SAMPLER": "sometimes"}) as service:
        assert service.process.wait(15) != 0
        wait_for(lambda: "sometimes" in service.output)
    assert "OTEL_TRACES_SAMPLER='sometimes'" in service.output
    assert "it is none of always_on" in service.output


def test_uvicorn_without_a_lifespan_serves_untouched_and_says_it_once() -> None:
    env = {"OTEL_TRACES_SAMPLER": "sometimes"}
    with uvicorn("orders:app", "--lifespan", "off", env=env) as service:
        service.wait_until_ready("/items/1")
        answers = [httpx.get(f"{service.url}/items/{number}") for number in range(20)]
        service.stop()
    assert {answer.status_code for answer in answers} == {200}
    assert "x-correlation-id" not in answers[0].headers
    assert service.output.count("OTEL_TRACES_SAMPLER='sometimes'") == 1
    assert "CRITICAL" in service.output


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT", "-1", "not a number of at least 0"),
        ("CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT", "soon", "not a number"),
        ("CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT", "inf", "not a number of at least 0"),
        ("OTEL_TRACES_SAMPLER_ARG", "lots", "not a number"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "not a number from 0 to 1"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "none of otlp, azuremonitor, console, none"),
        ("OTEL_METRICS_EXPORTER", "otlp,statsd", "none of"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "none of http/protobuf, grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x", "not an address"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "cumulative"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no-equals-sign", "not a key=value pair"),
        ("CONNECTSOFT_OBS_TRUSTED_PROXIES", "everyone", "not an IP network"),
        ("CONNECTSOFT_OBS_LIVENESS_PATH", "alive", "starts with /"),
        ("CONNECTSOFT_OBS_ACCESS_LOG", "loud", "none of all, errors, off"),
        ("LOG_LEVEL", "chatty", "none of debug"),
    ],
)
def test_a_value_that_cannot_work_says_what_was_given_why_and_what_to_do(name: str, text: str, why: str) -> None:
    with pytest.raises(obs.ConfigurationError) as raised:
        load_settings({name: text})
    assert f"{name}=" in str(raised.value)
    assert text in raised.value.given or name == "OTEL_EXPORTER_OTLP_HEADERS"  # never quoted: it may hold a token
    assert why in raised.value.why
    assert raised.value.instead


def test_a_secret_is_not_in_the_message() -> None:
    with pytest.raises(obs.ConfigurationError) as raised:
        load_settings({"CONNECTSOFT_OBS_DETAILS_TOKEN": "short"})
    assert "short" not in raised.value.given


def test_environment_wins_over_arguments_and_arguments_over_defaults() -> None:
    settings = load_settings({"CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT": "2"}, shutdown_timeout=9, cardinality_limit=7)
    assert (settings.shutdown_timeout, settings.cardinality_limit, settings.span_max_export_batch_size) == (2.0, 7, 512)


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load_settings({"OTEL_TRACES_SAMPLER": "", "OTEL_SERVICE_NAME": ""}, service="a").service == "a"


def test_resource_attributes_win_over_arguments_and_the_service_name_variable_over_both() -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=b,service.version=2,team=blue%20one"}
    settings = load_settings(environ, service="a", version="1", resource_attributes={"team": "red", "tier": "web"})
    assert (settings.service, settings.version) == ("b", "2")
    assert settings.resource_attributes["team"] == "blue one"
    assert settings.resource_attributes["tier"] == "web"
    assert load_settings({**environ, "OTEL_SERVICE_NAME": "c"}, service="a").service == "c"


def test_milliseconds_of_the_standard_variables_are_seconds_inside() -> None:
    settings = load_settings({"OTEL_BSP_SCHEDULE_DELAY": "250", "OTEL_METRIC_EXPORT_INTERVAL": "1000"})
    assert (settings.span_schedule_delay, settings.metric_interval) == (0.25, 1.0)


def test_an_unknown_variable_of_ours_names_the_nearest_one() -> None:
    [text] = unknown_variables({"CONNECTSOFT_OBS_SHUTDOWN_TIMEOUTS": "1", "OTHER": "x"})
    assert "CONNECTSOFT_OBS_SHUTDOWN_TIMEOUTS" in text
    assert "did you mean CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT?" in text


def test_an_unknown_variable_is_one_warning_of_a_running_service() -> None:
    with uvicorn("orders:app", env={"CONNECTSOFT_OBS_DRAINDELAY": "1"}) as service:
        service.wait_until_ready()
        service.stop()
    [line] = [line for line in service.json_lines if "DRAINDELAY" in line["message"]]
    assert line["severity"] == "WARN"
    assert "CONNECTSOFT_OBS_DRAIN_DELAY" in line["message"]


def test_an_unknown_argument_names_the_nearest_setting() -> None:
    with pytest.raises(obs.ConfigurationError, match="Did you mean access_log"):
        load_settings({}, acces_log="all")

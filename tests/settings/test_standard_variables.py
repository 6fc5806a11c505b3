"""Variables that platforms set for services of all languages: invalid values are ignored with a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.request import Request, urlopen

import pytest
from support.process import uvicorn

import connectsoft_obs as obs
from connectsoft_obs.settings import invalid_variables, load_settings, valid_environment
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import EXPORTER_STATUS


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("OTEL_TRACES_SAMPLER_ARG", "lots", "not a number"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "not a number from 0 to 1"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "not one of otlp, azuremonitor, console, none"),
        ("OTEL_METRICS_EXPORTER", "statsd", "not one of"),
        ("OTEL_PROPAGATORS", "xray,b3multi", "the propagator xray is not installed"),
        ("OTEL_RESOURCE_ATTRIBUTES", "no-equals-sign", "not a key=value pair"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "not one of http/protobuf, grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "cumulative"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no-equals-sign", "not a key=value pair"),
        ("LOG_LEVEL", "chatty", "not one of debug"),
        ("OTEL_SDK_DISABLED", "1", "neither true nor false"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1", "neither true nor false"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "not a whole number from 1"),
    ],
)
def test_invalid_standard_variable_is_ignored_with_a_warning(name: str, text: str, why: str) -> None:
    settings = load_settings({name: text})
    assert settings == load_settings({})
    [warning] = invalid_variables({name: text}, settings)
    assert warning.startswith(f"{name}=")
    assert why in warning
    assert warning.startswith("entry") or " is used instead" in warning
    # Pairs are not quoted, because they may contain a token.
    assert (text in warning) is (why != "not a key=value pair")


def test_invalid_variable_of_one_signal_is_ignored_with_a_warning() -> None:
    environ = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}
    [warning] = invalid_variables(environ, load_settings(environ))
    assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" in warning
    assert "http/protobuf" in warning


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "otlp,zipkin", "traces_exporter", ("otlp",)),
        ("OTEL_PROPAGATORS", "b3multi,TraceContext,xray", "propagators", ("tracecontext",)),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "team=a,hunter2-secret,tier=web",
            "resource_attributes",
            {"team": "a", "tier": "web"},
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2-secret,c=d", "otlp_headers", {"a": "b", "c": "d"}),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,c=hunter2-secret%0A", "otlp_headers", {"a": "b"}),
    ],
)
def test_valid_entries_of_a_partly_invalid_list_are_used(name: str, text: str, field: str, value: object) -> None:
    settings = load_settings({name: text})
    assert getattr(settings, field) == value
    warnings = invalid_variables({name: text}, settings)
    assert warnings
    assert all(f"of {name} is ignored" in warning for warning in warnings)
    assert "hunter2" not in "".join(warnings)


@pytest.mark.parametrize("text", ["banana", "1", "yes"])
def test_disabled_variable_is_false_unless_it_is_true(text: str) -> None:
    settings = load_settings({"OTEL_SDK_DISABLED": text}, disabled=True)
    assert not settings.disabled
    assert load_settings({"OTEL_SDK_DISABLED": "True"}).disabled


INVALID_DESTINATIONS = [
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:99999"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://:4318"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://collector", "OTEL_TRACES_EXPORTER": "otlp"},
    {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "collector:port"},
    {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=hunter2"},
    {"OTEL_TRACES_EXPORTER": "azuremonitor"},
    # A password that is not encoded ends the host part early.
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:12/hunter2@collector:4318"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "user:hunter2#1@collector:4318"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "unix:///run/otlp.sock"},
]


@pytest.mark.parametrize("environ", INVALID_DESTINATIONS)
def test_exporter_with_an_invalid_variable_is_off(environ: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry(load_settings(environ, service="shop"), environ=environ, exports=True)
    output = capfd.readouterr().out
    assert output.count('"ERROR"') == 1
    assert any(name in output for name in environ)
    assert "hunter2" not in output
    assert telemetry.exporters is not None
    assert "traces" not in "".join(telemetry.exporters.addresses)
    assert telemetry.metrics.family(EXPORTER_STATUS).number_series("traces").cells[0] == 2
    telemetry.shutdown(0.1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"otlp_endpoint": "http://collector:99999"},
        {"otlp_endpoint": "http://:4318"},
        {"azure_connection_string": "InstrumentationKey=hunter2"},
        {"traces_exporter": "azuremonitor"},
        {"propagators": "xray"},
    ],
)
def test_invalid_destination_in_an_argument_is_rejected(arguments: dict[str, str]) -> None:
    with pytest.raises(obs.ConfigurationError) as raised:
        Telemetry(load_settings({}, service="shop", **arguments), exports=True)
    assert raised.value.given.startswith(next(iter(arguments)))


INVALID_ENVIRONMENT = {
    "OTEL_PROPAGATORS": "xray,b3multi,jaeger",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "-1",
    "OTEL_PYTHON_TRACER_PROVIDER": "absent",
    "OTEL_PYTHON_METER_PROVIDER": "absent",
    "OTEL_TRACES_SAMPLER": "parentbased_jaeger_remote",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:99999",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": "nonsense",
    "LOG_LEVEL": "chatty",
}


def test_service_starts_with_every_variable_invalid() -> None:
    with uvicorn("orders:app", "--lifespan", "on", env=INVALID_ENVIRONMENT) as service:
        service.wait_until_ready()
        # Not with httpx: another test of this process may have switched on its instrumentation, which sets the header.
        request = Request(f"{service.url}/items/1", headers={"traceparent": f"00-{7:032x}-{7:016x}-01"})
        with urlopen(request, timeout=10) as response:
            assert response.status == 200
        service.stop()
    for name in INVALID_ENVIRONMENT:
        lines = [
            line for line in service.json_lines if name in line["message"] and line["severity"] in ("WARN", "ERROR")
        ]
        assert len(lines) == 1, name
    [access_line] = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]
    assert access_line["trace_id"] == f"{7:032x}"


@pytest.mark.parametrize("name", ["configure", "ObservabilityMiddleware", "job", "worker", "Settings", "bind"])
def test_import_restores_variables_that_it_hides(name: str) -> None:
    environ = {**os.environ, "OTEL_PROPAGATORS": "xray", "OTEL_SPAN_EVENT_COUNT_LIMIT": "many"}
    code = (
        f"import os, connectsoft_obs; connectsoft_obs.{name}; "
        "print(os.environ['OTEL_PROPAGATORS'], os.environ['OTEL_SPAN_EVENT_COUNT_LIMIT'])"
    )
    result = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert result.stdout == "xray many\n", result.stderr
    assert "Traceback" not in result.stderr


def test_valid_environment_keeps_a_value_that_changes_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "many")
    with valid_environment():
        assert "OTEL_SPAN_LINK_COUNT_LIMIT" not in os.environ
        os.environ["OTEL_SPAN_LINK_COUNT_LIMIT"] = "7"
    assert os.environ["OTEL_SPAN_LINK_COUNT_LIMIT"] == "7"

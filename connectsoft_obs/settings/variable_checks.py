"""Warnings about environment variables: invalid values, unknown names, values that are probably a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from connectsoft_obs.settings import opentelemetry_validation
from connectsoft_obs.settings.fields import PREFIX, Settings, quote_value, variable
from connectsoft_obs.settings.loader import FIELDS, OTLP_FIELDS, read_variable, signal_variable, similar
from connectsoft_obs.vocabulary import Signal

_MIN_MILLISECONDS = {
    "metric_interval": 1000,
    "otlp_timeout": 100,
    "span_schedule_delay": 50,
    "log_schedule_delay": 50,
}
"""Durations below are probably meant in seconds. 300 is used for a metric interval of five minutes."""
_OTHER_VARIABLES = frozenset(
    f"OTEL_{name}"
    for name in (
        "BLRP_EXPORT_TIMEOUT", "BSP_EXPORT_TIMEOUT", "ENTITIES", "EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "EXPORTER_OTLP_SPAN_INSECURE", "EXPORTER_OTLP_METRIC_INSECURE", "LOG_LEVEL", "METRIC_EXPORT_TIMEOUT",
        "LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "SEMCONV_STABILITY_OPT_IN",
        "INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST", "INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE",
    )
) | opentelemetry_validation.VARIABLES  # fmt: skip
"""Variables that OpenTelemetry reads, and that resemble variables of settings."""
_VARIABLES = {variable(name, field.metadata["env"]): name for name, field in FIELDS.items()}


def variable_warnings(environ: Mapping[str, str], settings: Settings) -> list[str]:
    """All warnings about environment variables."""
    return [
        *invalid_variables(environ, settings),
        *implausible_variables(environ, settings),
        *unknown_variables(environ),
    ]


def invalid_variables(environ: Mapping[str, str], settings: Settings) -> list[str]:
    """One warning for each standard variable, or entry of a list, that is ignored, with the value used instead."""
    warnings = []
    for env, name, value in _standard_variables(settings):
        if content := environ.get(env):
            instead = quote_value(FIELDS[name], value)
            warnings += [
                problem if problem.startswith("entry") else f"{problem}; {instead} is used instead"
                for problem in read_variable(name, content, env).problems
            ]
    return warnings + opentelemetry_validation.invalid_variables(environ)


def implausible_variables(environ: Mapping[str, str], settings: Settings) -> list[str]:
    """One warning for each variable whose value is valid, but probably a mistake."""
    warnings = [
        f"{env}={environ[env]} is {value * 1000:g} milliseconds; write {value * 1_000_000:g} for {value * 1000:g} seconds"
        for env, name, value in _standard_variables(settings)
        if name in _MIN_MILLISECONDS and environ.get(env) and value * 1000 < _MIN_MILLISECONDS[name]
    ]
    if environ.get("OTEL_TRACES_SAMPLER_ARG") and not settings.traces_sampler.endswith("traceidratio"):
        warnings.append(
            f"OTEL_TRACES_SAMPLER_ARG has no effect with the sampler {settings.traces_sampler}; "
            "set OTEL_TRACES_SAMPLER=parentbased_traceidratio"
        )
    return warnings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One warning for each unknown CONNECTSOFT_OBS_ variable, and each OTEL_ variable that is probably misspelled."""
    warnings = []
    signal_variables = {signal_variable(name, signal) for name in OTLP_FIELDS for signal in Signal}
    otel_variables = {*_VARIABLES, *signal_variables, *_OTHER_VARIABLES}
    for name in sorted(environ):
        if name.startswith("OTEL_") and name not in otel_variables and (near := similar(name, otel_variables, 0.93)):
            warnings.append(f"unknown variable {name}; did you mean {near[0]}?")
        if name.startswith(PREFIX) and name not in _VARIABLES:
            near = similar(name, [variable for variable in _VARIABLES if variable.startswith(PREFIX)])
            hint = f"did you mean {near[0]}?" if near else "see the settings reference in the documentation."
            warnings.append(f"unknown variable {name}; {hint}")
    return warnings


def _standard_variables(settings: Settings) -> Iterator[tuple[str, str, Any]]:
    """Variable, setting and effective value."""
    for env, name in _VARIABLES.items():
        if env and not env.startswith(PREFIX):
            yield env, name, getattr(settings, name)
    for signal in Signal:
        override = settings.otlp_overrides.get(signal.value, {})
        for name in OTLP_FIELDS:
            yield signal_variable(name, signal), name, override.get(name, getattr(settings, name))

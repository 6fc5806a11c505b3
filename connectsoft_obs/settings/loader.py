"""Loads settings from environment variables, arguments and defaults."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.redaction import DEFAULT_POLICY, safe_str
from connectsoft_obs.settings import parsers
from connectsoft_obs.settings.fields import PREFIX, Settings, quote_value, variable
from connectsoft_obs.settings.parser_descriptions import is_list, value_description
from connectsoft_obs.vocabulary import ENVIRONMENT, SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION, Signal

FIELDS = {field.name: field for field in dataclasses.fields(Settings) if field.metadata}
_IDENTITY = {
    "service": SERVICE_NAME,
    "namespace": SERVICE_NAMESPACE,
    "version": SERVICE_VERSION,
    "environment": ENVIRONMENT,
}
OTLP_FIELDS = [name for name in FIELDS if name.startswith("otlp_") and name != "otlp_overrides"]


def load_settings(environ: Mapping[str, str], **arguments: Any) -> Settings:
    """Load settings: environment variables override arguments, arguments override defaults.

    An empty variable counts as unset, as in the OpenTelemetry specification. An argument of None counts as not passed.
    A standard variable with an invalid value, or its invalid entries, are ignored, because platforms set it for
    services of all languages; `variable_warnings` describes them.

    Raises:
        ConfigurationError: an argument or a CONNECTSOFT_OBS_ variable is invalid, or an argument is not a setting.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value in arguments.items():
        if name not in FIELDS:
            raise _unknown(name)
        if value is not None:
            values[name] = _read(name, value, name)
    for name, field in FIELDS.items():
        env = variable(name, field.metadata["env"])
        if env and (content := environ.get(env)) and (reading := read_variable(name, content, env)).is_set:
            values[name], sources[name] = reading.value, env
    _attributes_over_arguments(values, sources, environ, arguments)
    overrides = {signal.value: _signal(environ, signal, sources) for signal in Signal}
    values["otlp_overrides"] = {**values.get("otlp_overrides", {}), **{k: v for k, v in overrides.items() if v}}
    settings = Settings(**values, sources=sources)
    _cross_check(settings)
    return settings


def _read(name: str, value: Any, source: str) -> Any:
    """The value of a setting, parsed; `source` is the variable or the argument that it comes from."""
    metadata = FIELDS[name].metadata
    try:
        return metadata["reader"](value)
    except ValueError as error:
        reason = "it cannot be parsed" if metadata["secret"] and _repeats_value(str(error), value) else str(error)
        raise ConfigurationError(
            quote_setting(name, value, source),
            DEFAULT_POLICY.redact_text(reason),
            f"Set {source} to {value_description(metadata['reader'], is_argument=source == name)}.",
        ) from None


class VariableReading(NamedTuple):
    """Result of reading a standard variable: its value, or that of its valid entries, and a description of each problem.

    Args:
        value: the value.
        is_set: whether the value applies; otherwise the variable is ignored.
        problems: why the variable, or some of its entries, are ignored.
    """

    value: Any
    is_set: bool = True
    problems: tuple[str, ...] = ()


def read_variable(name: str, content: str, env: str) -> VariableReading:
    """Parse the content of the environment variable `env` of the setting `name`.

    Raises:
        ConfigurationError: the value is invalid, and the variable is not a standard variable.
    """
    try:
        return VariableReading(_read(name, content, env))
    except ConfigurationError as error:
        if env.startswith(PREFIX):
            raise
        invalid = error
    reader = FIELDS[name].metadata["reader"]
    if reader is parsers.url:
        return VariableReading(content)  # its exporter logs an error and stays off; a default would be a wrong address
    if is_list(reader):
        valid, problems = _read_entries(name, content, env)
        if valid:
            return VariableReading(_read(name, ",".join(valid), env), problems=problems)
    given = f"{env}=..." if reader is parsers.key_values else invalid.given
    problem = f"{given} is ignored: {invalid.why}"
    # The specification: every value except true is false.
    return VariableReading(False, is_set=reader is parsers.otel_boolean, problems=(problem,))


def _read_entries(name: str, content: str, env: str) -> tuple[list[str], tuple[str, ...]]:
    """The valid entries of a list, and a warning for each other entry. Entries that may be secrets are not quoted."""
    valid, problems = [], []
    for position, entry in enumerate(content.split(","), 1):
        try:
            _read(name, entry, env)
        except ConfigurationError as error:
            problems.append(f"entry {position} of {env} is ignored: {error.why}; the other entries are used")
        else:
            valid += [entry] if entry.strip() else []
    return valid, tuple(problems)


def quote_setting(name: str, value: Any, source: str = "") -> str:
    """`source=value` for error texts: `...` instead of the value of a secret setting, other values redacted.

    Args:
        name: the setting.
        value: what it was set to.
        source: the environment variable, or "" for the argument.
    """
    return f"{source or name}={quote_value(FIELDS[name], value)}"


def _repeats_value(message: str, value: Any) -> bool:
    """Whether an error message repeats a part of the value."""
    words = re.findall(r"[^\s,=:;'\"]{4,}", value if isinstance(value, str) else safe_str(value))
    return any(word in message for word in words)


def _attributes_over_arguments(
    values: dict[str, Any], sources: dict[str, str], environ: Mapping[str, str], arguments: Mapping[str, Any]
) -> None:
    """Let OTEL_RESOURCE_ATTRIBUTES override identity arguments, and OTEL_SERVICE_NAME override both."""
    attributes = values.get("resource_attributes", {}) if environ.get("OTEL_RESOURCE_ATTRIBUTES") else {}
    for name, attribute in _IDENTITY.items():
        if attribute in attributes and not (name == "service" and environ.get("OTEL_SERVICE_NAME")):
            values[name], sources[name] = attributes[attribute], "OTEL_RESOURCE_ATTRIBUTES"
    if arguments.get("resource_attributes"):
        from_argument = _read("resource_attributes", arguments["resource_attributes"], "resource_attributes")
        values["resource_attributes"] = {**from_argument, **attributes}


def _signal(environ: Mapping[str, str], signal: Signal, sources: dict[str, str]) -> dict[str, Any]:
    """Settings from OTEL_EXPORTER_OTLP_<SIGNAL>_*, which override the variables without a signal."""
    values: dict[str, Any] = {}
    for name in OTLP_FIELDS:
        env = signal_variable(name, signal)
        if (content := environ.get(env)) and (reading := read_variable(name, content, env)).is_set:
            values[name], sources[f"{name}.{signal.value}"] = reading.value, env
    return values


def signal_variable(name: str, signal: Signal) -> str:
    """The variable OTEL_EXPORTER_OTLP_<SIGNAL>_* of a setting."""
    general = variable(name, FIELDS[name].metadata["env"])
    return general.replace("OTLP_", f"OTLP_{signal.value.upper()}_", 1)


def _cross_check(settings: Settings) -> None:
    """Validate combinations of settings."""
    for name in ("details_token", "metrics_token"):
        token = getattr(settings, name)
        if token is not None and len(token) < 8:
            raise ConfigurationError(
                f"{PREFIX}{name.upper()}=...", "it is shorter than 8 characters", "Use a longer random token."
            )
    if settings.loggers_path and settings.details_token is None:
        raise ConfigurationError(
            f"CONNECTSOFT_OBS_LOGGERS_PATH={settings.loggers_path!r}",
            "changing log levels requires the details token, which is not set",
            "Set CONNECTSOFT_OBS_DETAILS_TOKEN as well.",
        )
    _check_paths(settings)


_ENDPOINT_PATHS = (
    "liveness_path", "liveness_path_alias", "readiness_path", "startup_path", "startup_path_alias", "health_path",
    "metrics_path", "info_path", "loggers_path",
)  # fmt: skip


def _check_paths(settings: Settings) -> None:
    """Validate that no two endpoints are on one path. An alias may repeat the path that it is an alias of."""
    setting_by_path: dict[str, str] = {}
    for name in _ENDPOINT_PATHS:
        path = getattr(settings, name)
        if path and (other := setting_by_path.setdefault(path, name)) != name and name != f"{other}_alias":
            raise ConfigurationError(
                f"{PREFIX}{name.upper()}={path!r}",
                f"{PREFIX}{other.upper()} is the same path",
                "Use another path for one of them.",
            )


def _unknown(name: str) -> ConfigurationError:
    near = similar(name, list(FIELDS))
    hint = f"Did you mean {near[0]}?" if near else "See the settings reference in the documentation."
    return ConfigurationError(f"{name}=...", "there is no such setting", hint)


def similar(name: str, names: Iterable[str], similarity: float = 0.6) -> list[str]:
    """The most similar name, as a list; empty if there is none."""
    from difflib import get_close_matches  # only needed for an error; not imported at every start

    return get_close_matches(name, sorted(names), 1, similarity)

"""Loads settings from environment variables, arguments and defaults."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.redaction import DEFAULT_POLICY, safe_str
from connectsoft_obs.settings import parsers
from connectsoft_obs.settings.fields import PREFIX, Settings, quote_value, variable
from connectsoft_obs.vocabulary import ENVIRONMENT, SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION, Signal

_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
_VARIABLES = {variable(name, field.metadata["env"]): name for name, field in _FIELDS.items()}
_IDENTITY = {
    "service": SERVICE_NAME,
    "namespace": SERVICE_NAMESPACE,
    "version": SERVICE_VERSION,
    "environment": ENVIRONMENT,
}
_OTLP = [name for name in _FIELDS if name.startswith("otlp_") and name != "otlp_overrides"]


def load_settings(environ: Mapping[str, str], **arguments: Any) -> Settings:
    """Load settings: environment variables override arguments, arguments override defaults.

    An empty variable counts as unset, as in the OpenTelemetry specification. An argument of None counts as not passed.
    A standard variable with an invalid value is ignored, because platforms set it for services of all languages;
    `invalid_variables` describes it.

    Raises:
        ConfigurationError: an argument or a CONNECTSOFT_OBS_ variable is invalid, or an argument is not a setting.
    """
    values: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in _FIELDS:
            raise _unknown(name)
        if value is not None:
            values[name] = _read(name, value, name)
    for name, field in _FIELDS.items():
        env = variable(name, field.metadata["env"])
        if env and (content := environ.get(env)):
            _read_variable(values, name, content, env)
    _attributes_over_arguments(values, environ, arguments)
    overrides = {signal.value: _signal(environ, signal) for signal in Signal}
    values["otlp_overrides"] = {**values.get("otlp_overrides", {}), **{k: v for k, v in overrides.items() if v}}
    settings = Settings(**values)
    _cross_check(settings)
    return settings


def invalid_variables(environ: Mapping[str, str], settings: Settings) -> list[str]:
    """One warning for each standard variable whose value is ignored, with the value that is used instead."""
    warnings = []
    variables = [(env, name, getattr(settings, name)) for env, name in _VARIABLES.items() if env]
    for signal in Signal:
        override = settings.otlp_overrides.get(signal.value, {})
        variables += [
            (_signal_variable(name, signal), name, override.get(name, getattr(settings, name))) for name in _OTLP
        ]
    for env, name, used in variables:
        if not env.startswith(PREFIX) and (content := environ.get(env)):
            try:
                _read(name, content, env)
            except ConfigurationError as error:
                instead = quote_value(_FIELDS[name], used)
                warnings.append(f"{error.given} is ignored: {error.why}; {instead} is used instead")
    return warnings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One warning for each unknown CONNECTSOFT_OBS_ variable, with the most similar variable that exists."""
    warnings = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in _VARIABLES:
            near = _similar(name, [variable for variable in _VARIABLES if variable.startswith(PREFIX)])
            hint = f"did you mean {near[0]}?" if near else "see the settings reference in the documentation."
            warnings.append(f"unknown variable {name}; {hint}")
    return warnings


def _read(name: str, value: Any, source: str) -> Any:
    """The value of a setting, parsed; `source` is the variable or the argument that it comes from."""
    metadata = _FIELDS[name].metadata
    try:
        return metadata["reader"](value)
    except ValueError as error:
        reason = "it cannot be parsed" if metadata["secret"] and _repeats_value(str(error), value) else str(error)
        raise ConfigurationError(
            quote_setting(name, value, source),
            DEFAULT_POLICY.redact_text(reason),
            f"Set {source} to {parsers.expected(metadata['reader'])}.",
        ) from None


def _read_variable(values: dict[str, Any], name: str, content: str, env: str) -> None:
    """Read a variable into `values`. An invalid value of a standard variable is ignored, as if it were not set."""
    try:
        values[name] = _read(name, content, env)
    except ConfigurationError:
        if env.startswith(PREFIX):
            raise


def quote_setting(name: str, value: Any, source: str = "") -> str:
    """`source=value` for error texts: `...` instead of the value of a secret setting, other values redacted.

    Args:
        name: the setting.
        value: what it was set to.
        source: the environment variable, or "" for the argument.
    """
    return f"{source or name}={quote_value(_FIELDS[name], value)}"


def _repeats_value(message: str, value: Any) -> bool:
    """Whether an error message repeats a part of the value."""
    words = re.findall(r"[^\s,=:;'\"]{4,}", value if isinstance(value, str) else safe_str(value))
    return any(word in message for word in words)


def _attributes_over_arguments(
    values: dict[str, Any], environ: Mapping[str, str], arguments: Mapping[str, Any]
) -> None:
    """Let OTEL_RESOURCE_ATTRIBUTES override identity arguments, and OTEL_SERVICE_NAME override both."""
    attributes = values.get("resource_attributes", {}) if environ.get("OTEL_RESOURCE_ATTRIBUTES") else {}
    for name, attribute in _IDENTITY.items():
        if attribute in attributes and not (name == "service" and environ.get("OTEL_SERVICE_NAME")):
            values[name] = attributes[attribute]
    if arguments.get("resource_attributes"):
        from_argument = _read("resource_attributes", arguments["resource_attributes"], "resource_attributes")
        values["resource_attributes"] = {**from_argument, **attributes}


def _signal(environ: Mapping[str, str], signal: Signal) -> dict[str, Any]:
    """Settings from OTEL_EXPORTER_OTLP_<SIGNAL>_*, which override the variables without a signal."""
    values: dict[str, Any] = {}
    for name in _OTLP:
        env = _signal_variable(name, signal)
        if content := environ.get(env):
            _read_variable(values, name, content, env)
    return values


def _signal_variable(name: str, signal: Signal) -> str:
    general = variable(name, _FIELDS[name].metadata["env"])
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
    near = _similar(name, list(_FIELDS))
    hint = f"Did you mean {near[0]}?" if near else "See the settings reference in the documentation."
    return ConfigurationError(f"{name}=...", "there is no such setting", hint)


def _similar(name: str, names: list[str]) -> list[str]:
    from difflib import get_close_matches  # only needed for an error; not imported at every start

    return get_close_matches(name, names, 1)

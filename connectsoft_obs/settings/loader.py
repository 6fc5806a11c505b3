"""Environment over arguments over defaults, with errors that say what to do."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.redaction import DEFAULT_POLICY, safe_str
from connectsoft_obs.settings import parsers
from connectsoft_obs.settings.fields import PREFIX, Settings, variable
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
    """Settings from the environment, then arguments, then defaults.

    An empty variable counts as unset, as the OpenTelemetry specification has it. `None` as an argument means not given.

    Raises:
        ConfigurationError: for a value that cannot work or an argument that does not exist.
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
            values[name] = _read(name, content, env)
    _attributes_over_arguments(values, environ, arguments)
    overrides = {signal.value: _signal(environ, signal) for signal in Signal}
    values["otlp_overrides"] = {**values.get("otlp_overrides", {}), **{k: v for k, v in overrides.items() if v}}
    settings = Settings(**values)
    _cross_check(settings)
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One sentence for each CONNECTSOFT_OBS_ variable that no setting reads, naming the nearest one that exists."""
    found = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in _VARIABLES:
            near = _near(name, [known for known in _VARIABLES if known.startswith(PREFIX)])
            hint = f"did you mean {near[0]}?" if near else "the documentation lists the variables."
            found.append(f"{name} is set but unknown; {hint}")
    return found


def _read(name: str, value: Any, source: str) -> Any:
    """The value of a setting, parsed; `source` is the variable or the argument that it comes from."""
    metadata = _FIELDS[name].metadata
    try:
        return metadata["reader"](value)
    except ValueError as error:
        reason = "it cannot be parsed" if metadata["secret"] and _quotes(str(error), value) else str(error)
        raise ConfigurationError(
            quote_setting(name, value, source),
            DEFAULT_POLICY.redact_text(reason),
            f"Set {source} to {parsers.expected(metadata['reader'])}.",
        ) from None


def quote_setting(name: str, value: Any, source: str = "") -> str:
    """`source=value` for error texts: `...` instead of the value of a secret setting, other values redacted.

    Args:
        name: the setting.
        value: what it was set to.
        source: the environment variable, or "" for the argument.
    """
    if _FIELDS[name].metadata["secret"]:
        return f"{source or name}=..."
    return f"{source or name}={DEFAULT_POLICY.redact_text(safe_str(value))}"


def _quotes(message: str, value: Any) -> bool:
    """Whether an error message repeats a part of the value."""
    words = re.findall(r"[^\s,=:;'\"]{4,}", value if isinstance(value, str) else safe_str(value))
    return any(word in message for word in words)


def _attributes_over_arguments(
    values: dict[str, Any], environ: Mapping[str, str], arguments: Mapping[str, Any]
) -> None:
    """OTEL_RESOURCE_ATTRIBUTES wins over an argument that says the same thing, and OTEL_SERVICE_NAME over both."""
    attributes = values.get("resource_attributes", {}) if environ.get("OTEL_RESOURCE_ATTRIBUTES") else {}
    for name, attribute in _IDENTITY.items():
        if attribute in attributes and not (name == "service" and environ.get("OTEL_SERVICE_NAME")):
            values[name] = attributes[attribute]
    if arguments.get("resource_attributes"):
        given = _read("resource_attributes", arguments["resource_attributes"], "resource_attributes")
        values["resource_attributes"] = {**given, **attributes}


def _signal(environ: Mapping[str, str], signal: Signal) -> dict[str, Any]:
    """What OTEL_EXPORTER_OTLP_<SIGNAL>_* say; they win over the variables without a signal."""
    found = {}
    for name in _OTLP:
        general = variable(name, _FIELDS[name].metadata["env"])
        env = general.replace("OTLP_", f"OTLP_{signal.value.upper()}_", 1)
        if content := environ.get(env):
            found[name] = _read(name, content, env)
    return found


def _cross_check(settings: Settings) -> None:
    """Refuse what each value alone does not show."""
    if settings.temporality != "cumulative":
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE={settings.temporality!r}",
            "metrics of several workers and of /metrics are cumulative and cannot be sent as deltas",
            "Leave it unset, and use the collector's cumulativetodelta processor for a backend that needs deltas.",
        )
    for name in ("details_token", "metrics_token"):
        token = getattr(settings, name)
        if token is not None and len(token) < 8:
            raise ConfigurationError(
                f"{PREFIX}{name.upper()}=...", "it is shorter than 8 characters", "Use a longer random token."
            )
    if settings.loggers_path and settings.details_token is None:
        raise ConfigurationError(
            f"CONNECTSOFT_OBS_LOGGERS_PATH={settings.loggers_path!r}",
            "log levels can be changed only by holders of the details token, and there is none",
            "Set CONNECTSOFT_OBS_DETAILS_TOKEN too.",
        )


def _unknown(name: str) -> ConfigurationError:
    near = _near(name, list(_FIELDS))
    hint = f"Did you mean {near[0]}?" if near else "See the reference of settings."
    return ConfigurationError(f"{name}=...", "there is no such setting", hint)


def _near(name: str, known: list[str]) -> list[str]:
    from difflib import get_close_matches  # where somebody mistyped, and not in every start

    return get_close_matches(name, known, 1)

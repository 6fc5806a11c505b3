"""Loads and writes SLO declarations: TOML files, `pyproject.toml` and Python objects."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict, to_dict

TOOL_TABLE = "connectsoft_obs"


def load(path: str | Path) -> ServiceSLOs:
    """Load the SLOs of a TOML file; of a `pyproject.toml`, its table `[tool.connectsoft_obs]`.

    Raises:
        ConfigurationError: the file cannot be read, or its content is not valid.
    """
    import tomllib  # imported on use: services that declare SLOs in Python do not need it

    file = Path(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"slo_file={str(path)!r}", f"it cannot be read: {error.strerror or error}", "Set the path of a TOML file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"slo_file={str(path)!r}", f"it is not TOML: {error}", "Correct that line.") from None
    if file.name == "pyproject.toml":
        content = content.get("tool", {}).get(TOOL_TABLE, {})
    if not content:
        raise ConfigurationError(f"slo_file={str(path)!r}", "it declares no SLOs", "Add [service] and [[slo]] tables.")
    try:
        return from_dict(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.given}", error.why, error.instead) from None


def resolve_source(source: str, service: str = "") -> ServiceSLOs:
    """Load SLOs from the path of a file, or from `package.module:NAME`, which is imported.

    Args:
        source: a path, or the location of a `ServiceSLOs` or a sequence of SLOs in Python.
        service: name of the service, for a sequence.

    Raises:
        ConfigurationError: the source cannot be read or imported, or is not a declaration of SLOs.
    """
    module, colon, name = source.partition(":")
    if not colon or Path(source).exists() or "/" in source or "\\" in source:
        return load(source)
    sys.path.insert(0, "")
    try:
        value = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(source, f"it cannot be imported: {error}", "Write package.module:NAME.") from None
    finally:
        sys.path.remove("")
    return load_any(value, service)


def load_any(value: Any, service: str = "") -> ServiceSLOs:
    """Load SLOs from a path, a `ServiceSLOs`, or a sequence of SLOs and composite SLOs, as `objectives=` accepts them.

    Raises:
        ConfigurationError: the value is none of these, or not valid.
    """
    if isinstance(value, str | Path):
        return load(value)
    items: Sequence[Any] = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(items) == 1 and isinstance(items[0], ServiceSLOs):
        return items[0]
    for item in items:
        if not isinstance(item, SLO | CompositeSLO):
            raise ConfigurationError(
                f"objectives=[{item!r}]",
                "it is not an SLO",
                'Create one with connectsoft_obs.slo, such as slo.availability("auth", 99.9), or set a TOML file.',
            )
    if items and not service:
        raise ConfigurationError(
            "objectives=[...]",
            "a list of SLOs does not name the service they belong to",
            "Set the service name, or use slo.ServiceSLOs.",
        )
    return ServiceSLOs(
        service=service or "service",
        slos=tuple(item for item in items if isinstance(item, SLO)),
        composites=tuple(item for item in items if isinstance(item, CompositeSLO)),
    )


def to_toml(service_slos: ServiceSLOs) -> str:
    """Format SLOs as a TOML file; `load` returns equal SLOs."""
    content = to_dict(service_slos)
    blocks = [
        _block(f"[{name}]", content[name])
        for name in ("service", "prometheus", "policy", "receivers")
        if name in content
    ]
    for name in ("slo", "composite"):
        blocks += [_block(f"[[{name}]]", table) for table in content.get(name, ())]
    return "\n".join(blocks)


def _block(header: str, table: dict[str, Any]) -> str:
    return "\n".join([header, *(f"{key} = {_value(value)}" for key, value in table.items())]) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return _basic_string(value)
    return repr(int(value)) if isinstance(value, float) and value == int(value) else repr(value)


def _basic_string(value: str) -> str:
    """Format a TOML basic string; quotes, backslashes and control characters are escaped."""
    escapes = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\t": r"\t", "\r": r"\r"}
    return (
        '"'
        + "".join(escapes.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else c) for c in value)
        + '"'
    )

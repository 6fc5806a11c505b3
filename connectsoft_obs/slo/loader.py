"""Where promises are found: a TOML file, the pyproject of a service, or an object in Python."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.model import SLO, CompositeSLO, ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict, to_dict

TOOL = "connectsoft_obs"


def load(path: str | Path) -> ServiceSLOs:
    """The promises of a TOML file; of a pyproject.toml, its table `[tool.connectsoft_obs]`.

    Raises:
        ConfigurationError: it cannot be read, or says what cannot work.
    """
    import tomllib  # only where a file is read

    place = Path(path)
    try:
        content = tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"slo_file={str(path)!r}", f"it cannot be read: {error.strerror or error}", "Give the path of a TOML file."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"slo_file={str(path)!r}", f"it is not TOML: {error}", "Correct that line.") from None
    if place.name == "pyproject.toml":
        content = content.get("tool", {}).get(TOOL, {})
    if not content:
        raise ConfigurationError(f"slo_file={str(path)!r}", "it promises nothing", "Add [service] and [[slo]] tables.")
    return from_dict(content)


def resolve_source(source: str, service: str = "") -> ServiceSLOs:
    """Promises from the path of a file, or from `package.module:NAME`, which is imported.

    Args:
        source: a path; or where a `Promises`, or a sequence of objectives, is in Python.
        service: the service's name, for a sequence.

    Raises:
        ConfigurationError: there is nothing there, or not that.
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
    """Promises as `configure(slos=...)` takes them: a path, a `Promises`, or a sequence of objectives and composites.

    Raises:
        ConfigurationError: it is none of these, or cannot work.
    """
    if isinstance(value, str | Path):
        return load(value)
    given: Sequence[Any] = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(given) == 1 and isinstance(given[0], ServiceSLOs):
        return given[0]
    for one in given:
        if not isinstance(one, SLO | CompositeSLO):
            raise ConfigurationError(
                f"objectives=[{one!r}]",
                "it is not an objective",
                'Make one with connectsoft_obs.slo, such as slo.availability("auth", 99.9), or give a TOML file.',
            )
    if given and not service:
        raise ConfigurationError(
            "objectives=[...]",
            "a list of objectives does not say whose they are",
            "Name the service, or give a Promises.",
        )
    return ServiceSLOs(
        service=service or "service",
        slos=tuple(one for one in given if isinstance(one, SLO)),
        composites=tuple(one for one in given if isinstance(one, CompositeSLO)),
    )


def to_toml(made: ServiceSLOs) -> str:
    """The TOML file of promises; `load` gives back the same promises."""
    content = to_dict(made)
    blocks = [_block(f"[{name}]", content[name]) for name in ("service", "prometheus", "policy") if name in content]
    for name in ("slo", "composite"):
        blocks += [_block(f"[[{name}]]", one) for one in content.get(name, ())]
    return "\n".join(blocks)


def _block(head: str, table: dict[str, Any]) -> str:
    return "\n".join([head, *(f"{key} = {_value(value)}" for key, value in table.items())]) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    if isinstance(value, str):
        return _text(value)
    return repr(int(value)) if isinstance(value, float) and value == int(value) else repr(value)


def _text(value: str) -> str:
    """A basic string: quotes, backslashes and everything below a space escaped."""
    escapes = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\t": r"\t", "\r": r"\r"}
    return (
        '"'
        + "".join(escapes.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else c) for c in value)
        + '"'
    )

"""The promises of the company's platforms, ready to be generated or copied."""

from __future__ import annotations

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict

PRESETS = ("audit", "bot", "config", "factory", "identity", "saas")


def text(name: str) -> str:
    """The file of a preset, comments included.

    Raises:
        ConfigurationError: there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigurationError(f"preset {name!r}", "there is no such preset", f"There are {', '.join(PRESETS)}.")
    from importlib import resources  # not when a service starts: it costs 10 ms, and only commands need it

    return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def preset(name: str) -> ServiceSLOs:
    """The promises of a platform.

    Raises:
        ConfigurationError: there is no such preset.
    """
    import tomllib

    return from_dict(tomllib.loads(text(name)))

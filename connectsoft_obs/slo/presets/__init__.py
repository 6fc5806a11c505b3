"""SLOs of the company's platforms, to generate from or to copy."""

from __future__ import annotations

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.slo.serialization import from_dict

PRESETS = ("audit", "bot", "config", "factory", "identity", "saas")


def read_preset(name: str) -> str:
    """Return the TOML text of a preset, with its comments.

    Raises:
        ConfigurationError: the preset does not exist.
    """
    if name not in PRESETS:
        raise ConfigurationError(f"preset {name!r}", "there is no such preset", f"Use one of {', '.join(PRESETS)}.")
    from importlib import resources  # imported on use: it takes 10 ms, which a service should not spend at startup

    return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def preset(name: str) -> ServiceSLOs:
    """Return the SLOs of a platform.

    Raises:
        ConfigurationError: the preset does not exist.
    """
    import tomllib

    return from_dict(tomllib.loads(read_preset(name)))

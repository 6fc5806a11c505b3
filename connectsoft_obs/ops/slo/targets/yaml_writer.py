"""Writes generated files as YAML."""

from __future__ import annotations

import re
from typing import Any

import yaml

_YAML_1_1_BREAKS = frozenset("\x85\u2028\u2029")


class _Dumper(yaml.SafeDumper):
    """Block style throughout: text of several lines as a literal block, and no aliases for repeated values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # The line breaks that only YAML 1.1 has are escaped: YAML 1.2 reads them as ordinary characters.
    style = '"' if _YAML_1_1_BREAKS & set(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_str)
# PyYAML follows YAML 1.1. Text that is a number in YAML 1.2 must be quoted as well, because Kubernetes reads it as one.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+|0o[0-7]+"), list("-+.0123456789")
)


def dump(content: Any) -> str:
    """Return a YAML document with keys in the order of the content and long lines unbroken."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))

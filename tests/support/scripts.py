"""Small programs in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.process import APPS

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Ended:
    """A program that ended: what it wrote, and with which code."""

    out: str
    err: str
    code: int

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output, of which every line must be a JSON object."""
        return [json.loads(line) for line in self.out.splitlines()]

    def messages(self) -> list[str]:
        """What it said, besides that it has started."""
        return [line["message"] for line in self.lines if line["message"] != "observability is on"]


def run(code: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> Ended:
    """Run Python source to its end."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"PYTHONPATH": str(APPS), **(env or {})}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=timeout, env=environment, check=False,
    )  # fmt: skip
    return Ended(done.stdout, done.stderr, done.returncode)

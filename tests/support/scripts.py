"""Runs Python source in a subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.process import APPS

_INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class ScriptResult:
    """The output and the exit code of a script."""

    stdout: str
    stderr: str
    exit_code: int

    @property
    def json_lines(self) -> list[dict[str, Any]]:
        """Standard output, of which every line must be a JSON object."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def messages(self) -> list[str]:
        """The messages of the JSON lines, without the one about the start."""
        return [line["message"] for line in self.json_lines if line["message"] != "observability configured"]


def run_script(code: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> ScriptResult:
    """Run Python source until it ends."""
    environment = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    environment |= {"PYTHONPATH": str(APPS), **(env or {})}
    completed = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=timeout, env=environment, check=False,
    )  # fmt: skip
    return ScriptResult(completed.stdout, completed.stderr, completed.returncode)

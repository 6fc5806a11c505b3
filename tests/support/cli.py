"""The commands as a pipeline runs them: in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`connectsoft-obs slo` with some arguments, in a directory."""
    return subprocess.run(
        [sys.executable, "-m", "connectsoft_obs", "slo", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )

"""Runs the command line interface in a subprocess."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_slo_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `connectsoft-obs slo` with arguments in a directory."""
    return subprocess.run(
        [sys.executable, "-m", "connectsoft_obs", "slo", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )

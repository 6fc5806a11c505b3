"""The short form of tests/bench/worker_soak.py: one framework, workers that are killed at random, exact counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "bench" / "worker_soak.py"


@pytest.mark.full
def test_metrics_of_killed_taskiq_workers_match_what_the_jobs_recorded() -> None:
    command = [sys.executable, str(SCRIPT), "--seconds", "30", "--only", "taskiq"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stdout + result.stderr

"""Instructions per request on other Python versions: `python tests/bench/python_versions.py python3.12 python3.13`.

Each interpreter gets a virtual environment with the package and the dependencies of the bare application.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import instructions

ROOT = Path(__file__).parents[2]
_PRINT_VERSION = "import platform; print(platform.python_version())"


def measure(pythons: list[str]) -> dict[str, dict[str, float]]:
    """By version: instructions of a request to the bare application and to the instrumented one."""
    results = {}
    for command in pythons:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([command, "-m", "venv", folder], check=True)
            python = f"{folder}/bin/python"
            subprocess.run([python, "-m", "pip", "install", "-q", f"{ROOT}[demo]", "starlette"], check=True)
            output = subprocess.run([python, "-c", _PRINT_VERSION], check=True, capture_output=True, text=True).stdout
            results[output.strip()] = instructions.per_request(["bare", "connectsoft-obs"], python)
    return results


if __name__ == "__main__":
    for version, row in measure(sys.argv[1:]).items():
        added = row["connectsoft-obs"] - row["bare"]
        print(f"{version:<10} bare {row['bare'] / 1000:.1f}, added {added / 1000:.1f}: {added / row['bare']:.2f}x")

"""What a request costs on other Pythons, in instructions: `python tests/bench/python_versions.py python3.12 python3.13`.

Each gets an environment of its own with the package and what the bare application needs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import instructions

ROOT = Path(__file__).parents[2]
_VERSION = "import platform; print(platform.python_version())"


def measure(pythons: list[str]) -> dict[str, dict[str, float]]:
    """By version: instructions of a request of the bare application and of ours."""
    found = {}
    for python in pythons:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([python, "-m", "venv", folder], check=True)
            own = f"{folder}/bin/python"
            subprocess.run([own, "-m", "pip", "install", "-q", f"{ROOT}[demo]", "starlette"], check=True)
            version = subprocess.run([own, "-c", _VERSION], check=True, capture_output=True, text=True).stdout.strip()
            found[version] = instructions.per_request(["bare", "ours"], own)
    return found


if __name__ == "__main__":
    for version, row in measure(sys.argv[1:]).items():
        added = row["ours"] - row["bare"]
        print(f"{version:<10} bare {row['bare'] / 1000:.1f}, ours {added / 1000:.1f} more: {added / row['bare']:.2f}x")

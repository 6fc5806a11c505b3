"""What `connectsoft-obs probe` costs to start, in pairs with an interpreter that does nothing.

python tests/bench/probe_command.py [pairs]
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run."""
    began = time.perf_counter()
    subprocess.run(command, check=False, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the medians and quartiles of three kinds of run."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    bare = [sys.executable, "-c", "pass"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        kinds = {"python -m connectsoft_obs probe": [sys.executable, "-m", "connectsoft_obs", "probe", target]}
        script = shutil.which("connectsoft-obs", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if script:
            kinds["connectsoft-obs probe"] = [script, "probe", target]
        for name, command in kinds.items():
            seconds(bare), seconds(command)
            runs = [(seconds(bare), seconds(command)) for _ in range(pairs)]
            mine, differences = [run[1] for run in runs], [run[1] - run[0] for run in runs]
            low, middle, high = statistics.quantiles(differences, n=4)
            print(
                f"{name}: {statistics.median(mine) * 1e3:.1f} ms, "
                f"{middle * 1e3:.1f} ms more than `python -c pass` ({low * 1e3:.1f} to {high * 1e3:.1f}), {pairs} pairs"
            )


if __name__ == "__main__":
    main()

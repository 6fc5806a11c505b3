"""Start-up time of `connectsoft-obs probe`, compared in pairs with an interpreter that does nothing.

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


def elapsed_seconds(command: list[str]) -> float:
    """Elapsed time of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=False, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print medians and quartiles for each way to start the command."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    empty = [sys.executable, "-c", "pass"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        commands = {"python -m connectsoft_obs probe": [sys.executable, "-m", "connectsoft_obs", "probe", target]}
        script = shutil.which("connectsoft-obs", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if script:
            commands["connectsoft-obs probe"] = [script, "probe", target]
        for name, command in commands.items():
            elapsed_seconds(empty), elapsed_seconds(command)  # warm-up
            runs = [(elapsed_seconds(empty), elapsed_seconds(command)) for _ in range(pairs)]
            times, differences = [run[1] for run in runs], [run[1] - run[0] for run in runs]
            low, median, high = statistics.quantiles(differences, n=4)
            print(
                f"{name}: {statistics.median(times) * 1e3:.1f} ms, {median * 1e3:.1f} ms more than `python -c pass` "
                f"({low * 1e3:.1f} to {high * 1e3:.1f}), {pairs} pairs"
            )


if __name__ == "__main__":
    main()

"""Entry point of `connectsoft-obs` and `python -m connectsoft_obs`. Each command is imported when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = """usage: connectsoft-obs COMMAND ...

commands:
  demo [--once]   run a service with traffic on this machine and show its telemetry (extra: demo)
  doctor [APP]    show settings and their sources; check collectors, routes, checks and SLOs (extra: cli)
  slo ...         lint, explain, generate, test, report and gate SLOs (extra: cli)
  probe TARGET    probe a health endpoint, a TCP port or a heartbeat file; exit 0 if healthy, else 1
  version         print the version of this package

Run `connectsoft-obs COMMAND --help` for the options of a command.
Shell completion: eval "$(_CONNECTSOFT_OBS_COMPLETE=bash_source connectsoft-obs)"; for other shells zsh_source, fish_source.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if instruction := os.environ.get("_CONNECTSOFT_OBS_COMPLETE"):
        return _run_with_extra("completion", instruction)
    if command == "probe":
        from connectsoft_obs.cli.probe import main as probe

        return probe(rest)
    if command in ("slo", "doctor"):
        return _run_with_extra(command, rest)
    if command == "demo":
        from connectsoft_obs.demo import main as demo

        return demo(rest)
    if command in ("version", "--version"):
        from connectsoft_obs._version import __version__

        sys.stdout.write(f"{__version__}\n")
        return 0
    out = sys.stdout if command in ("--help", "-h", "help") else sys.stderr
    if out is sys.stderr:
        out.write(f"connectsoft-obs: unknown command {command!r}\n\n")
    out.write(_USAGE)
    return 0 if out is sys.stdout else 2


def _run_with_extra(command: str, arguments: Sequence[str] | str) -> int:
    """Run a command of the extra `cli`, or print how to install it."""
    try:
        main_function = import_module(f"connectsoft_obs.cli.{command}").main
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich", "yaml"):
            raise
        sys.stderr.write(
            f"connectsoft-obs {command} needs {error.name}, which is not installed: pip install 'connectsoft-obs[cli]'\n"
        )
        return 2
    code: int = main_function(arguments)
    return code


if __name__ == "__main__":
    raise SystemExit(main())

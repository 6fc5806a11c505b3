"""`python -m connectsoft_obs` and `connectsoft-obs`: commands, each imported only when it is asked for."""

from __future__ import annotations

import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = """usage: connectsoft-obs COMMAND ...

commands:
  demo [--once]   a service with traffic on this machine, and what its four signals say (extra: demo)
  slo ...         promises of services: lint, explain, generate, test, report, gate and more (extra: cli)
  probe TARGET    ask a health endpoint, a TCP port or a heartbeat file; exit 0 when it is well, 1 when not
  version         the version of this package

`connectsoft-obs COMMAND --help` tells the options of a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give back its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (given[0], given[1:]) if given else ("--help", [])
    if command == "probe":
        from connectsoft_obs.cli.probe import main as probe

        return probe(rest)
    if command == "slo":
        return _slo(rest)
    if command == "demo":
        from connectsoft_obs.demo import main as demo

        return demo(rest)
    if command in ("version", "--version"):
        from connectsoft_obs import __version__

        sys.stdout.write(f"{__version__}\n")
        return 0
    out = sys.stdout if command in ("--help", "-h", "help") else sys.stderr
    if out is sys.stderr:
        out.write(f"connectsoft-obs: there is no command {command!r}\n\n")
    out.write(_USAGE)
    return 0 if out is sys.stdout else 2


def _slo(arguments: Sequence[str]) -> int:
    """Commands that need the extra `cli`, or one line that says so."""
    try:
        from connectsoft_obs.cli.slo import main as slo
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich", "yaml"):
            raise
        sys.stderr.write(
            f"connectsoft-obs slo needs {error.name}, which is not installed: pip install 'connectsoft-obs[cli]'\n"
        )
        return 2
    return slo(arguments)


if __name__ == "__main__":
    raise SystemExit(main())

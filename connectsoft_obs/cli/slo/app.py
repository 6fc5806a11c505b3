"""The command group `slo`, and its error handling."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from connectsoft_obs.cli.slo.files import export, generate, import_, preset, runbook
from connectsoft_obs.cli.slo.init import init
from connectsoft_obs.cli.slo.inspect import diff, explain, lint
from connectsoft_obs.cli.slo.postmortem import postmortem
from connectsoft_obs.cli.slo.promtool import test
from connectsoft_obs.cli.slo.status import gate, report
from connectsoft_obs.errors import ObsError


class _Group(click.Group):
    """Shows the first sentence of each command completely, wrapped instead of cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.get_short_help_str(limit=10_000)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def slo() -> None:
    """Generate rules, dashboards, runbooks and reports from SLO declarations, and gate deployments on them.

    SOURCE is a TOML file, a pyproject.toml with [tool.connectsoft_obs], or package.module:NAME of a Python object.
    The default is slo.toml in the current directory, or else its pyproject.toml.
    """


for _command in (init, lint, explain, generate, test, diff, report, gate, postmortem, import_, export, runbook, preset):
    slo.add_command(_command)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 0 for success, 1 for a negative result, 2 for an error."""
    try:
        code = slo.main(list(arguments), "connectsoft-obs slo", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 2
    except ObsError as error:
        sys.stderr.write(f"connectsoft-obs slo: {error}\n")
        return 2
    return int(code or 0)

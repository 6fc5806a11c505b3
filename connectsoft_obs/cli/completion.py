"""Completion of commands and options in shells: `eval "$(_CONNECTSOFT_OBS_COMPLETE=bash_source connectsoft-obs)"`."""

from __future__ import annotations

import click
from click.shell_completion import shell_complete

from connectsoft_obs.cli.slo.app import slo

PROGRAM = "connectsoft-obs"
VARIABLE = "_CONNECTSOFT_OBS_COMPLETE"
"""The variable in which shells request completions, and in which a user requests the script for a shell."""


def main(instruction: str) -> int:
    """Write the script for a shell (`bash_source`), or completions (`bash_complete`); return the exit code."""
    commands: dict[str, click.Command] = {name: click.Command(name) for name in ("demo", "doctor", "probe", "version")}
    return shell_complete(click.Group(PROGRAM, commands | {"slo": slo}), {}, PROGRAM, VARIABLE, instruction)

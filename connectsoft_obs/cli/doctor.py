"""`connectsoft-obs doctor`: what is configured, where each value comes from, and whether it works."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

import click
from rich.markup import escape

from connectsoft_obs.cli.slo.console import create_console, create_table
from connectsoft_obs.errors import ObsError
from connectsoft_obs.ops.doctor import Diagnosis, diagnose
from connectsoft_obs.ops.findings import Level


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("target", default="")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for each answer.")
@click.option(
    "--public-url", default="", help="Public address of the running service: report readable /metrics, /info."
)
@click.option("--all", "show_all", is_flag=True, help="Also show settings that have their default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(target: str, timeout: float, public_url: str, show_all: bool, as_json: bool) -> int:
    """Show settings and their sources, and check collectors, routes, health checks and SLOs.

    TARGET is module:attribute of an ASGI application, or the module of a worker; without it, only the environment is
    checked. The target is imported, but not started. The exit code is 1 if there is an error, and 2 for an invalid
    TARGET.
    """
    diagnosis = diagnose(target, timeout=timeout, public_url=public_url)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(diagnosis), indent=2))
    else:
        _print(diagnosis, show_all)
    return int(any(finding.level is Level.ERROR for finding in diagnosis.findings))


def _print(diagnosis: Diagnosis, show_all: bool) -> None:
    console = create_console()
    settings = [
        (setting.name, escape(setting.value), setting.source)
        for setting in diagnosis.settings
        if show_all or setting.source != "default"
    ]
    if settings:
        console.print(create_table(("setting", "value", "from"), settings))
    elif diagnosis.settings:
        console.print("all settings have their defaults; --all shows them")
    for title, lines in (
        ("collectors", [f"{signal}: {state}" for signal, state in diagnosis.collectors.items()]),
        ("routes", diagnosis.routes),
        ("health checks", diagnosis.checks),
    ):
        if lines:
            console.print(f"[bold]{title}[/bold]")
            for line in lines:
                console.print(f"  {escape(line)}")
    findings = [
        (finding.level.value, finding.code, escape(f"{finding.subject}: {finding.message}. {finding.advice}"))
        for finding in diagnosis.findings
    ]
    if findings:
        console.print(create_table(("level", "code", "finding"), findings))
    else:
        console.print("no findings")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 0 without errors, 1 with errors, 2 for invalid arguments."""
    try:
        code = doctor.main(list(arguments), "connectsoft-obs doctor", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ObsError as error:
        sys.stderr.write(f"connectsoft-obs doctor: {error}\n")
        return 2
    return int(code or 0)

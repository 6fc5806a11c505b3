"""`slo test`: the scenarios of a service's own rules, through promtool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

from connectsoft_obs.cli.slo.inputs import console, load_declarations, sources, table
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.promtool_tests import scenarios
from connectsoft_obs.ops.slo.targets.registry import generated
from connectsoft_obs.slo.model import SLO, ServiceSLOs


class PromtoolResult(NamedTuple):
    """How the scenarios of one promise went."""

    about: str
    scenarios: int
    said: str


@click.command()
@sources
@click.option("--promtool", default="promtool", show_default=True, help="Program that runs the tests.")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False),
              help="Only write rules and tests there, for promtool in a pipeline of your own.")  # fmt: skip
def test(source: tuple[str, ...], service: str, promtool: str, output: Path | None) -> int:
    """Replay outages, single failures, idle hours and lost data, and see that alerts fire when they should."""
    made = load_declarations(source, service)
    files = generated("test", made)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (output / name).write_bytes(content.encode())
            click.echo(str(output / name))
        return 0
    program = shutil.which(promtool)
    if program is None:
        raise ConfigurationError(
            f"--promtool {promtool}", "it is not installed", "Install Prometheus, or write the tests with -o DIRECTORY."
        )
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        each = [(promises, slo) for promises in made for slo in promises.slos]
        trials = list(pool.map(lambda pair: _tried(program, Path(folder), *pair), each))
    rows = [
        (one.about, str(one.scenarios), one.said or ("holds" if one.scenarios else "no scenario for this kind"))
        for one in trials
    ]
    console().print(table(("promise", "scenarios", "result"), rows))
    return int(any(one.said for one in trials))


def _tried(program: str, folder: Path, promises: ServiceSLOs, slo: SLO) -> PromtoolResult:
    some = scenarios(promises, slo)
    if not some:
        return PromtoolResult(promises.id(slo), 0, "")
    name = f"{promises.service}-{slo.name}"
    said = ""
    for command in (["check", "rules", f"{name}.rules.yaml"], ["test", "rules", f"{name}.test.yaml"]):
        done = subprocess.run(  # noqa: S603  the program that the user named
            [program, *command], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said += re.sub(r"(?m)^\s*$\n", "", f"{done.stdout}\n{done.stderr}")
    return PromtoolResult(promises.id(slo), len(some), said.strip())

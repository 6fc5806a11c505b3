"""Command `slo test`: unit tests of the generated rules with promtool."""

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

from connectsoft_obs.cli.slo.console import create_console, create_table
from connectsoft_obs.cli.slo.inputs import load_declarations, source_arguments
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.promtool_tests import scenarios
from connectsoft_obs.ops.slo.target_registry import generate_files
from connectsoft_obs.slo.model import SLO, ServiceSLOs


class PromtoolResult(NamedTuple):
    """Test result of one SLO; `errors` is the output of promtool, empty if the tests passed."""

    slo_id: str
    scenarios: int
    errors: str


@click.command()
@source_arguments
@click.option("--promtool", default="promtool", show_default=True, help="Path of promtool.")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False),
              help="Only write rules and tests to this directory, to run promtool elsewhere.")  # fmt: skip
def test(source: tuple[str, ...], service: str, promtool: str, output: Path | None) -> int:
    """Test the generated rules with promtool: outages, single failures, idle hours and missing data."""
    services = load_declarations(source, service)
    files = generate_files("test", services)
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
        slos = [(service_slos, slo) for service_slos in services for slo in service_slos.slos]
        results = list(pool.map(lambda pair: _run_promtool(program, Path(folder), *pair), slos))
    rows = [
        (
            result.slo_id,
            str(result.scenarios),
            result.errors or ("passed" if result.scenarios else "no scenarios for this SLI type"),
        )
        for result in results
    ]
    create_console().print(create_table(("SLO", "scenarios", "result"), rows))
    return int(any(result.errors for result in results))


def _run_promtool(program: str, folder: Path, service_slos: ServiceSLOs, slo: SLO) -> PromtoolResult:
    slo_id = service_slos.slo_id(slo)
    slo_scenarios = scenarios(service_slos, slo)
    if not slo_scenarios:
        return PromtoolResult(slo_id, 0, "")
    errors = ""
    for command in (["check", "rules", f"{slo_id}.test-rules.yaml"], ["test", "rules", f"{slo_id}.test.yaml"]):
        process = subprocess.run(  # noqa: S603  the user names the program
            [program, *command], cwd=folder, capture_output=True, text=True, check=False
        )
        if process.returncode:
            errors += re.sub(r"(?m)^\s*$\n", "", f"{process.stdout}\n{process.stderr}")
    return PromtoolResult(slo_id, len(slo_scenarios), errors.strip())

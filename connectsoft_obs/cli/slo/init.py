"""Command `slo init`: a first declaration for a service."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.metric_delivery import detect_metric_delivery
from connectsoft_obs.slo.loader import to_toml
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.slo.objectives import availability, job_success_rate, latency

_CHOICES = {"scraped": True, "pushed": False, "unknown": None}
_STATES = {
    True: "Prometheus scrapes the service",
    False: "the service pushes its metrics",
    None: "it is unknown how metrics reach Prometheus; set scraped in [service]",
}


@click.command()
@click.option("--service", help="Name of the service in its telemetry; by default OTEL_SERVICE_NAME or the directory.")
@click.option("--team", default="", help="Team that is responsible for the service.")
@click.option("--metrics", type=click.Choice(list(_CHOICES)),
              help="How metrics reach Prometheus: it scrapes the service, or the service pushes them over OTLP.")  # fmt: skip
@click.option("--job", default="", help="Declare the success of this job instead of requests.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), default=Path("slo.toml"),
              show_default=True, help="File to write; an existing file is not overwritten.")  # fmt: skip
def init(service: str | None, team: str, metrics: str | None, job: str, output: Path) -> int:
    """Write a first slo.toml. Asks in a terminal how metrics reach Prometheus, if deployment files do not state it."""
    if output.exists():
        raise ConfigurationError(str(output), "it exists and is not overwritten", "Edit it, or name another file.")
    name = service or os.environ.get("OTEL_SERVICE_NAME") or Path.cwd().name
    scraped = _CHOICES[metrics] if metrics is not None else _detect_or_ask()
    slos = (
        (job_success_rate("runs-succeed", 95, job=job, description=f"Runs of {job} succeed."),)
        if job
        else (
            availability("availability", 99.9, description="Requests succeed."),
            latency("response-time", 99, under="500ms", description="Requests are answered within 500 ms."),
        )
    )
    output.write_text(to_toml(ServiceSLOs(service=name, slos=slos, team=team, scraped=scraped)), encoding="utf-8")
    click.echo(f"{output} written; set CONNECTSOFT_OBS_SLO_FILE={output} in the service, and run `slo lint`")
    return 0


def _detect_or_ask() -> bool | None:
    detected = detect_metric_delivery(Path.cwd(), os.environ)
    if detected.scraped is None and sys.stdin.isatty():
        return _CHOICES[click.prompt("How do metrics reach Prometheus", type=click.Choice(list(_CHOICES)))]
    click.echo(f"{_STATES[detected.scraped]}: {detected.reason}")
    return detected.scraped

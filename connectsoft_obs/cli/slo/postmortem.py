"""Command `slo postmortem`: the first version of a postmortem."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from connectsoft_obs.cli.slo.inputs import load_declarations, parse_timestamp, source_arguments
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo.postmortem import (
    counted_time,
    fetch_impact,
    fetch_missing_series,
    fetch_timeline,
    render_postmortem,
)
from connectsoft_obs.ops.slo.postmortem.timeline import MAX_DURATION
from connectsoft_obs.slo.durations import humanize


@click.command()
@source_arguments
@click.option("--from", "start", required=True, metavar="TIME", help="Start in UTC, as 2026-10-31T12:00.")
@click.option("--to", "end", required=True, metavar="TIME", help="End in UTC, as 2026-10-31T13:30.")
@click.option("--prometheus", envvar="PROMETHEUS_URL", required=True, metavar="URL",
              help="Prometheus server that evaluates the generated rules.")  # fmt: skip
@click.option("--token", envvar="PROMETHEUS_TOKEN", default="", help="Bearer token for the server.")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="New file; else standard output.")
def postmortem(
    *, source: tuple[str, ...], service: str, start: str, end: str, prometheus: str, token: str, output: Path | None
) -> None:
    """Write the first version of a postmortem: severity, impact on each SLO, timeline, and sections to complete.

    A Sev1 incident requires a postmortem.
    """
    first, last, now = parse_timestamp(start), parse_timestamp(end), time.time()
    for is_wrong, reason in (
        (last <= first, "the end is not after the start"),
        (last > now, f"the end is in the future: it is {datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M} UTC"),
        (last - first > MAX_DURATION, f"it is longer than {humanize(MAX_DURATION)}"),
    ):
        if is_wrong:
            raise ConfigurationError(
                f"--from {start} --to {end}", reason, "Write the start and the end of the incident in UTC."
            )
    counted = counted_time(first, last, now)
    if counted[1] <= counted[0]:
        raise ConfigurationError(
            f"--from {start} --to {end}", "its events are not recorded yet", "Run the command again in five minutes."
        )
    if output is not None and output.exists():
        raise ConfigurationError(f"--output {output}", "the file exists", "Name a new file.")
    client = PrometheusClient(prometheus, token)
    pages = []
    for service_slos in load_declarations(source, service):
        impacts = [fetch_impact(service_slos, slo, client, first, last, now) for slo in service_slos.slos]
        timeline = fetch_timeline(service_slos, client, first, last)
        missing = fetch_missing_series(service_slos, client, first, last)
        pages.append(render_postmortem(service_slos, impacts, timeline, missing, first, last, counted))
    text = "\n".join(pages)
    if output is None:
        click.echo(text, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    click.echo(f"{output} written")

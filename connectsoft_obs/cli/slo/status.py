"""Commands that query Prometheus: report, gate."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import click
from rich.progress import Progress

from connectsoft_obs.cli.slo.console import create_console, create_table
from connectsoft_obs.cli.slo.inputs import load_declarations, parse_timestamp, source_arguments
from connectsoft_obs.ops.prometheus_api import PrometheusClient, PrometheusUnavailable
from connectsoft_obs.ops.slo.report import SloStatus, fetch_status, render_markdown, render_plots
from connectsoft_obs.ops.slo.report.budget import fetch_budget, format_remaining, format_spent
from connectsoft_obs.ops.slo.report.gate import GateResult, evaluate_gate
from connectsoft_obs.ops.slo.report.months import MonthlyEvents, fetch_month
from connectsoft_obs.slo.model import ServiceSLOs

_PROMETHEUS = click.option(
    "--prometheus", envvar="PROMETHEUS_URL", required=True, metavar="URL",
    help="Prometheus server that evaluates the generated rules.",
)  # fmt: skip
_TOKEN = click.option(
    "--token", envvar="PROMETHEUS_TOKEN", default="",
    help="Bearer token; for Azure Monitor one for https://prometheus.monitor.azure.com.",
)  # fmt: skip


@click.command()
@source_arguments
@_PROMETHEUS
@_TOKEN
@click.option("--at", help="Time of the report in UTC, as 2026-10-31 or 2026-10-31T12:00; now by default.")
@click.option("--month", help="Report one calendar month only, as 2026-10.")
@click.option("--format", "output_format", type=click.Choice(["md", "json"]), default="md", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Directory for page and plots.")
def report(
    *, source: tuple[str, ...], service: str, prometheus: str, token: str, at: str | None, month: str | None,
    output_format: str, output: Path | None,
) -> int:  # fmt: skip
    """Report the remaining error budgets, what consumed them, and calendar months, as Markdown with plots."""
    services, client = load_declarations(source, service), PrometheusClient(prometheus, token)
    timestamp = time.time() if at is None else parse_timestamp(at)
    if month is not None:
        return _report_month(services, client, month, timestamp, output_format)
    files: dict[str, str] = {}
    with Progress(console=create_console(), transient=True, disable=not create_console().is_terminal) as progress:
        task = progress.add_task("querying", total=sum(len(service_slos.slos) for service_slos in services))
        for service_slos in services:
            statuses: list[SloStatus] = []
            for slo in service_slos.slos:
                statuses.append(fetch_status(service_slos, slo, client, timestamp))
                progress.advance(task)
            files |= _report_files(service_slos, statuses, output_format, output)
    if output is None:
        click.echo("\n".join(files.values()), nl=False)
        return 0
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (output / name).write_text(content, encoding="utf-8")
        click.echo(str(output / name))
    return 0


@click.command()
@source_arguments
@_PROMETHEUS
@_TOKEN
@click.option("--name", multiple=True, help="Only this SLO; repeatable.")
@click.option("--min-remaining", type=float,
              help="Percent of the error budget that must be left; by default that of [policy], or 0.")  # fmt: skip
@click.option("--unknown", type=click.Choice(["fail", "pass"]),
              help="Result for an SLO without data; by default that of [policy], or fail.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Write the results as JSON.")
def gate(
    *, source: tuple[str, ...], service: str, prometheus: str, token: str, name: tuple[str, ...],
    min_remaining: float | None, unknown: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Exit 1 if an error budget is exhausted or an alert pages, to stop a deployment; 2 if the server does not answer."""
    client, now = PrometheusClient(prometheus, token), time.time()
    results: list[GateResult] = []
    for service_slos in load_declarations(source, service):
        selected = [service_slos.find(slo_name) for slo_name in name] if name else list(service_slos.all_slos)
        for slo in selected:
            budget = fetch_budget(service_slos, slo, client, now)
            results.append(evaluate_gate(service_slos, service_slos.slo_id(slo), budget, min_remaining, unknown))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(result) for result in results], indent=2))
    else:
        rows = [
            (
                result.slo,
                format_remaining(result.remaining),
                result.state,
                "pass" if result.passes else "fail",
                result.reason,
            )
            for result in results
        ]
        create_console().print(create_table(("SLO", "error budget left", "state", "gate", "reason"), rows))
    return int(not all(result.passes for result in results))


def _report_files(
    service_slos: ServiceSLOs, statuses: list[SloStatus], output_format: str, output: Path | None
) -> dict[str, str]:
    if output_format == "json":
        content = json.dumps([dataclasses.asdict(status) for status in statuses], indent=2) + "\n"
        return {f"{service_slos.service}.report.json": content}
    page = render_markdown(service_slos, statuses, with_plots=output is not None)
    plots = render_plots(service_slos, statuses) if output is not None else {}
    return {f"{service_slos.service}.report.md": page} | plots


def _report_month(
    services: list[ServiceSLOs], client: PrometheusClient, month: str, now: float, output_format: str
) -> int:
    start = parse_timestamp(f"{month}-01")
    months: dict[str, MonthlyEvents] = {}
    for service_slos in services:
        for slo in service_slos.slos:
            if (events := fetch_month(service_slos, slo, client, start, now)) is not None:
                months[service_slos.slo_id(slo)] = events
    if not months:
        raise PrometheusUnavailable(f"no data for {month}")
    if output_format == "json":
        click.echo(json.dumps({slo_id: dataclasses.asdict(events) for slo_id, events in months.items()}, indent=2))
        return 0
    lines = [f"# SLOs in {month}", "", "| SLO | good | bad | error budget |", "| --- | --- | --- | --- |"]
    for slo_id, events in months.items():
        spent = "no events" if events.budget_spent is None else f"{format_spent(events.budget_spent)} consumed"
        lines.append(f"| {slo_id} | {events.good:,.0f} | {events.bad:,.0f} | {spent} |")
    click.echo("\n".join(lines))
    return 0

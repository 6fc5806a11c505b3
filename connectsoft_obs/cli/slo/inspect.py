"""Commands that analyze declarations: lint, explain, diff."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.markup import escape

from connectsoft_obs.cli.slo.console import create_console, create_table
from connectsoft_obs.cli.slo.inputs import load_declarations, source_arguments
from connectsoft_obs.ops.findings import Level
from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo import explain as explanations
from connectsoft_obs.ops.slo.diff import find_changes
from connectsoft_obs.ops.slo.lint import lint as find_violations
from connectsoft_obs.ops.slo.live_check import check_live
from connectsoft_obs.slo.loader import resolve_source

_COLORS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.NOTE: "dim"}


@click.command()
@source_arguments
@click.option("--azure", is_flag=True, help="Report violations of the limits of Azure Monitor as errors.")
@click.option("--strict", is_flag=True, help="Fail on warnings as well.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Ignore findings with this code; repeatable.")
@click.option("--prometheus", metavar="URL", help="Also check that a Prometheus server has the series.")
@click.option("--token", envvar="PROMETHEUS_TOKEN", default="", help="Bearer token for the server.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON.")
def lint(
    *, source: tuple[str, ...], service: str, azure: bool, strict: bool, ignore: tuple[str, ...],
    prometheus: str | None, token: str, as_json: bool,
) -> int:  # fmt: skip
    """Check declarations: alerts that cannot fire, late pages, missing bucket boundaries, limits of targets."""
    services = load_declarations(source, service)
    findings = [finding for service_slos in services for finding in find_violations(service_slos, azure=azure)]
    if prometheus:
        client = PrometheusClient(prometheus, token)
        findings += [finding for service_slos in services for finding in check_live(service_slos, client)]
    findings = [finding for finding in findings if finding.code not in ignore]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    elif findings:
        rows = [
            (
                f"[{_COLORS[finding.level]}]{finding.level}[/]",
                finding.code,
                finding.subject,
                f"{escape(finding.message)}\n{escape(finding.advice)}",
            )
            for finding in findings
        ]
        create_console().print(create_table(("level", "code", "subject", "finding"), rows))
    else:
        count = sum(len(service_slos.all_slos) for service_slos in services)
        click.echo(f"no findings ({count} SLOs of {len(services)} services)")
    failing = {Level.ERROR, Level.WARNING} if strict else {Level.ERROR}
    return int(any(finding.level in failing for finding in findings))


@click.command()
@source_arguments
@click.option("--name", multiple=True, help="Only this SLO; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Write the explanations as JSON.")
def explain(source: tuple[str, ...], service: str, name: tuple[str, ...], as_json: bool) -> None:
    """Show error budgets in minutes and events, and when each alert fires and resolves in a total outage."""
    selected = [
        explanations.explain(service_slos, slo)
        for service_slos in load_declarations(source, service)
        for slo in ([service_slos.find(slo_name) for slo_name in name] if name else service_slos.slos)
    ]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(explanation) for explanation in selected], indent=2))
        return
    output = create_console()
    for explanation in selected:
        output.print(f"[bold]{escape(explanation.title)}[/]")
        for sentence in explanation.sentences:
            output.print(escape(sentence))
        if explanation.rows:
            header = dataclasses.astuple(explanations.HEADER)
            output.print(create_table(header, [dataclasses.astuple(row) for row in explanation.rows]))
        output.print()


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--service", default="", help="Service name, for lists of SLOs in Python.")
@click.option("--exit-code", is_flag=True, help="Exit 1 if an SLO was removed or weakened.")
@click.option("--json", "as_json", is_flag=True, help="Write the differences as JSON.")
def diff(before: str, after: str, service: str, exit_code: bool, as_json: bool) -> int:
    """Compare two declarations: objectives, error budgets, and when alerts fire."""
    changes = find_changes(resolve_source(before, service), resolve_source(after, service))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(change) for change in changes], indent=2))
    elif not changes:
        click.echo("no differences")
    else:
        rows = [
            (change.subject, change.field, change.before, change.after, "weaker" if change.weaker else "")
            for change in changes
        ]
        create_console().print(create_table(("SLO", "field", "before", "after", ""), rows))
    return int(exit_code and any(change.weaker for change in changes))

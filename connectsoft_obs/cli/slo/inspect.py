"""Commands that only look: lint, explain, diff."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.markup import escape

from connectsoft_obs.cli.slo.inputs import console, load_declarations, sources, table
from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo import explain as explained
from connectsoft_obs.ops.slo.diff import changes
from connectsoft_obs.ops.slo.lint import Level
from connectsoft_obs.ops.slo.lint import lint as linted
from connectsoft_obs.ops.slo.live_check import check_live
from connectsoft_obs.slo.loader import resolve_source

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.NOTE: "dim"}


@click.command()
@sources
@click.option("--azure", is_flag=True, help="Rules go to Azure Monitor: its limits are errors.")
@click.option("--strict", is_flag=True, help="Warnings fail as well.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave out findings of a kind; repeatable.")
@click.option("--prometheus", metavar="URL", help="Ask a server too whether every series is there.")
@click.option("--token", envvar="PROMETHEUS_TOKEN", default="", help="Bearer token for the server.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def lint(
    *, source: tuple[str, ...], service: str, azure: bool, strict: bool, ignore: tuple[str, ...],
    prometheus: str | None, token: str, as_json: bool,
) -> int:  # fmt: skip
    """Find what cannot work or will surprise: alerts that cannot fire, late pages, missing boundaries, limits."""
    made = load_declarations(source, service)
    findings = [finding for one in made for finding in linted(one, azure=azure)]
    if prometheus:
        server = PrometheusClient(prometheus, token)
        findings += [finding for one in made for finding in check_live(one, server)]
    findings = [finding for finding in findings if finding.code not in ignore]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    elif findings:
        rows = [
            (
                f"[{_COLOURS[one.level]}]{one.level}[/]",
                one.code,
                one.about,
                f"{escape(one.message)}\n{escape(one.advice)}",
            )
            for one in findings
        ]
        console().print(table(("", "code", "about", "finding"), rows))
    else:
        promises = sum(len(one.all) for one in made)
        click.echo(f"{promises} promises of {len(made)} services: nothing to say")
    failing = {Level.ERROR, Level.WARNING} if strict else {Level.ERROR}
    return int(any(finding.level in failing for finding in findings))


@click.command()
@sources
@click.option("--name", multiple=True, help="Only this promise; repeatable.")
def explain(source: tuple[str, ...], service: str, name: tuple[str, ...]) -> None:
    """Say in words and numbers what promises mean, and when each alert fires and resolves."""
    out = console()
    for promises in load_declarations(source, service):
        chosen = [promises.named(one) for one in name] if name else promises.slos
        for slo in chosen:
            said = explained.explain(promises, slo)
            out.print(f"[bold]{escape(said.title)}[/]")
            for sentence in said.sentences:
                out.print(escape(sentence))
            if said.rows:
                head = dataclasses.astuple(explained.HEAD)
                out.print(table(head, [dataclasses.astuple(row) for row in said.rows]))
            out.print()


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--service", default="", help="Name of the service, for lists of objectives in Python.")
@click.option("--exit-code", is_flag=True, help="Exit 1 when a promise became weaker or is gone.")
def diff(before: str, after: str, service: str, exit_code: bool) -> int:
    """Say what changes between two files: promises, budgets, and when alerts fire."""
    found_changes = changes(resolve_source(before, service), resolve_source(after, service))
    if not found_changes:
        click.echo("the same promises")
        return 0
    rows = [(one.about, one.what, one.before, one.after, "weaker" if one.weaker else "") for one in found_changes]
    console().print(table(("promise", "what", "before", "after", ""), rows))
    return int(exit_code and any(one.weaker for one in found_changes))

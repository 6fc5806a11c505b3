"""Commands that ask a server: report, gate."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.progress import Progress

from connectsoft_obs.cli.slo.inputs import console, load_declarations, sources, table
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.prometheus_api import PrometheusClient, PrometheusUnavailable
from connectsoft_obs.ops.slo.report import SloStatus, fetch_status, plots, render_markdown
from connectsoft_obs.ops.slo.report.status import Month, month_of
from connectsoft_obs.ops.slo.rules import PROMETHEUS, RuleContext
from connectsoft_obs.slo.model import ServiceSLOs
from connectsoft_obs.vocabulary import SLO_REMAINING

_PROMETHEUS = click.option(
    "--prometheus", envvar="PROMETHEUS_URL", required=True, metavar="URL", help="Server that has the recorded series."
)
_TOKEN = click.option(
    "--token", envvar="PROMETHEUS_TOKEN", default="",
    help="Bearer token; for Azure Monitor one for https://prometheus.monitor.azure.com.",
)  # fmt: skip


@click.command()
@sources
@_PROMETHEUS
@_TOKEN
@click.option("--at", help="Moment of the report, as 2026-10-31 or 2026-10-31T12:00; now by default. UTC.")
@click.option("--month", help="Only how one calendar month went, as 2026-10.")
@click.option("--format", "form", type=click.Choice(["md", "json"]), default="md", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Directory for page and plots.")
def report(
    *, source: tuple[str, ...], service: str, prometheus: str, token: str, at: str | None, month: str | None,
    form: str, output: Path | None,
) -> int:  # fmt: skip
    """Write where promises stand: budgets left, what spent them, months, as Markdown with plots."""
    made, server = load_declarations(source, service), PrometheusClient(prometheus, token)
    moment = time.time() if at is None else _moment(at)
    if month is not None:
        return _month(made, server, month, moment, form)
    files: dict[str, str] = {}
    with Progress(console=console(), transient=True, disable=not console().is_terminal) as progress:
        task = progress.add_task("asking", total=sum(len(one.slos) for one in made))
        for promises in made:
            standings: list[SloStatus] = []
            for slo in promises.slos:
                standings.append(fetch_status(promises, slo, server, moment))
                progress.advance(task)
            files |= _files(promises, standings, form, output)
    if output is None:
        click.echo("\n".join(files.values()), nl=False)
        return 0
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (output / name).write_text(content, encoding="utf-8")
        click.echo(str(output / name))
    return 0


@click.command()
@sources
@_PROMETHEUS
@_TOKEN
@click.option("--name", multiple=True, help="Only this promise; repeatable.")
@click.option("--min-remaining", type=float, default=0.0, show_default=True, help="Percent that must be left.")
@click.option("--unknown", type=click.Choice(["fail", "pass"]), default="fail", show_default=True,
              help="What a promise of which nobody knows does.")  # fmt: skip
def gate(
    *, source: tuple[str, ...], service: str, prometheus: str, token: str, name: tuple[str, ...], min_remaining: float,
    unknown: str,
) -> int:  # fmt: skip
    """Exit 1 when a budget is gone, so that a pipeline stops; 2 when the server does not answer."""
    server = PrometheusClient(prometheus, token)
    rows, closed = [], False
    for promises in load_declarations(source, service):
        chosen = [promises.named(one) for one in name] if name else list(promises.all)
        for promise in chosen:
            left = server.value(RuleContext(promises, promise, PROMETHEUS).recorded(SLO_REMAINING))
            passes = unknown == "pass" if left is None else left * 100 > min_remaining
            closed = closed or not passes
            shown = "unknown" if left is None else f"{left * 100:.1f} %"
            rows.append((promises.id(promise), shown, "passes" if passes else "stops"))
    console().print(table(("promise", "budget left", "gate"), rows))
    return int(closed)


def _files(promises: ServiceSLOs, standings: list[SloStatus], form: str, output: Path | None) -> dict[str, str]:
    if form == "json":
        content = json.dumps([dataclasses.asdict(one) for one in standings], indent=2) + "\n"
        return {f"{promises.service}.report.json": content}
    page = render_markdown(promises, standings, with_plots=output is not None)
    return {f"{promises.service}.report.md": page} | (plots(promises, standings) if output is not None else {})


def _month(made: list[ServiceSLOs], server: PrometheusClient, month: str, now: float, form: str) -> int:
    start = _moment(f"{month}-01")
    found: dict[str, Month] = {}
    for promises in made:
        for slo in promises.slos:
            if (one := month_of(promises, slo, server, start, now)) is not None:
                found[promises.id(slo)] = one
    if not found:
        raise PrometheusUnavailable(f"nothing is known of {month}")
    if form == "json":
        click.echo(json.dumps({name: dataclasses.asdict(one) for name, one in found.items()}, indent=2))
        return 0
    lines = [f"# Promises in {month}", "", "| promise | good | bad | of its budget |", "| --- | --- | --- | --- |"]
    for name, one in found.items():
        spent = "no events" if one.spent is None else f"{one.spent * 100:.3g} % spent"
        lines.append(f"| {name} | {one.good:,.0f} | {one.bad:,.0f} | {spent} |")
    click.echo("\n".join(lines))
    return 0


def _moment(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r}", "it is not a date", "Write 2026-10-31 or 2026-10-31T12:00.") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()

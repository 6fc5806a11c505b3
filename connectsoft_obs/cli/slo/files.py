"""Commands that write files: generate, runbook, import, export, preset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from connectsoft_obs.cli.slo.inputs import load_declarations, sources
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers import import_document
from connectsoft_obs.ops.slo.targets.registry import TARGETS, generated
from connectsoft_obs.slo import presets
from connectsoft_obs.slo.loader import to_toml

_DEFAULT = ("prometheus", "grafana", "runbook")


@click.command()
@sources
@click.option(
    "--target", "-t", multiple=True, type=click.Choice([*TARGETS, "all"]), default=_DEFAULT, show_default=True,
    help="What to generate; repeatable.",
)  # fmt: skip
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Directory.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when a file is not what would be written.")
def generate(source: tuple[str, ...], service: str, target: tuple[str, ...], output: Path, check: bool) -> int:
    """Write rules, dashboards, runbooks and more: the same bytes for the same promises."""
    made = load_declarations(source, service)
    chosen = tuple(TARGETS) if "all" in target else target
    files: dict[str, str] = {}
    for one in chosen:
        files |= generated(one, made)
    return _checked(files, output) if check else _write(files, output)


@click.command()
@sources
@click.option("--name", help="Only the page of this promise, on standard output.")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Directory.")
def runbook(source: tuple[str, ...], service: str, name: str | None, output: Path) -> int:
    """Write runbook skeletons. Files that exist are kept: people have filled them in."""
    made = load_declarations(source, service)
    pages = generated("runbook", made)
    if name is not None:
        slo_id = made[0].id(made[0].named(name)).lower()
        click.echo(pages[f"{slo_id}.md"], nl=False)
        return 0
    fresh = {file: page for file, page in pages.items() if not (output / file).exists()}
    for kept in sorted(pages.keys() - fresh.keys()):
        click.echo(f"{output / kept} kept")
    return _write(fresh, output)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--service", default="", help="Service of promises that name none.")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Directory for NAME.slo.toml.")
def import_(file: Path, service: str, output: Path | None) -> int:
    """Read promises of OpenSLO, Sloth or Pyrra, and write them as TOML: on standard output, or a file a service."""
    import yaml

    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(file), f"it is not YAML: {error}", "Give a file of one of the tools.") from None
    found = import_document(documents, service)
    files = {f"{promises.service}.slo.toml": to_toml(promises) for promises in found}
    if output is not None:
        return _write(files, output)
    click.echo("\n".join(files.values()), nl=False)
    return 0


@click.command()
@sources
@click.option("--format", "form", type=click.Choice(["openslo"]), default="openslo", show_default=True, help="Format.")
def export(source: tuple[str, ...], service: str, form: str) -> None:
    """Write promises in another tool's format on standard output; what it cannot say travels in annotations."""
    click.echo("---\n".join(generated(form, load_declarations(source, service)).values()), nl=False)


@click.command()
@click.argument("name", type=click.Choice(presets.PRESETS), required=False)
def preset(name: str | None) -> None:
    """Write the promises of one of the company's platforms, to start from; without a name, list them."""
    if name is not None:
        click.echo(presets.text(name), nl=False)
        return
    for one in presets.PRESETS:
        click.echo(f"{one:10} {presets.text(one).splitlines()[0].lstrip('# ')}")


def _write(files: Mapping[str, str], output: Path) -> int:
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        place = output / name
        state = "unchanged" if place.exists() and place.read_bytes() == content.encode() else "written"
        if state == "written":
            place.write_bytes(content.encode())
        click.echo(f"{place} {state}")
    return 0


def _checked(files: Mapping[str, str], output: Path) -> int:
    wrong = 0
    for name, content in files.items():
        place = output / name
        if not place.exists():
            click.echo(f"{place} is missing", err=True)
            wrong += 1
        elif place.read_bytes() != content.encode():
            click.echo(f"{place} is not what its promises say; generate it again", err=True)
            wrong += 1
    if not wrong:
        click.echo(f"{len(files)} files are what their promises say")
    return int(wrong > 0)

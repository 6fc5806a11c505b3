"""Commands that write files: generate, runbook, import, export, preset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from connectsoft_obs.cli.slo.inputs import load_declarations, source_arguments
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.importers import Omissions, import_documents
from connectsoft_obs.ops.slo.target_registry import COMPATIBLE_TARGETS, TARGETS, generate_files
from connectsoft_obs.slo import presets
from connectsoft_obs.slo.loader import to_toml

EXIT_OMISSIONS = 3
"""Exit code of an incomplete import."""
_DEFAULT_TARGETS = ("prometheus", "grafana", "runbook")


@click.command()
@source_arguments
@click.option(
    "--target", "-t", multiple=True, type=click.Choice([*TARGETS, "all"]), default=_DEFAULT_TARGETS, show_default=True,
    help="What to generate; repeatable.",
)  # fmt: skip
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Directory.")
@click.option("--compatible", multiple=True, type=click.Choice([*COMPATIBLE_TARGETS]),
              help="Also write rules that record the series of this tool, for its dashboards.")  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file differs from what would be written.")
def generate(
    *, source: tuple[str, ...], service: str, target: tuple[str, ...], output: Path, compatible: tuple[str, ...],
    check: bool,
) -> int:  # fmt: skip
    """Write rules, dashboards, runbooks and other files. Equal declarations produce identical files."""
    services = load_declarations(source, service)
    files: dict[str, str] = {}
    for name in TARGETS if "all" in target else target:
        files |= generate_files(name, services)
    for name in compatible:
        files |= COMPATIBLE_TARGETS[name](services)
    return _check(files, output) if check else _write(files, output)


@click.command()
@source_arguments
@click.option("--name", help="Only the page of this SLO, on standard output.")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Directory.")
def runbook(source: tuple[str, ...], service: str, name: str | None, output: Path) -> int:
    """Write runbook skeletons. Existing files are not overwritten, because teams complete them."""
    services = load_declarations(source, service)
    pages = generate_files("runbook", services)
    if name is not None:
        slo_id = services[0].slo_id(services[0].find(name)).lower()
        click.echo(pages[f"{slo_id}.md"], nl=False)
        return 0
    new_pages = {file: page for file, page in pages.items() if not (output / file).exists()}
    for file in sorted(pages.keys() - new_pages.keys()):
        click.echo(f"{output / file} exists, not overwritten")
    return _write(new_pages, output)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--service", default="", help="Service of SLOs that name none.")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Directory for NAME.slo.toml.")
def import_(file: Path, service: str, output: Path | None) -> int:
    """Convert SLOs of OpenSLO, Sloth or Pyrra to TOML: on standard output, or one file per service.

    Parts that cannot be imported are written to standard error, and the exit code is 3.
    """
    import yaml

    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            str(file), f"it is not YAML: {error}", "Use a file of OpenSLO, Sloth or Pyrra."
        ) from None
    omissions = Omissions()
    services = import_documents(documents, service, omissions)
    for text in omissions.texts:
        click.echo(text, err=True)
    exit_code = EXIT_OMISSIONS if omissions.texts else 0
    files = {f"{service_slos.service}.slo.toml": to_toml(service_slos) for service_slos in services}
    if output is not None:
        return _write(files, output) or exit_code
    click.echo("\n".join(files.values()), nl=False)
    return exit_code


@click.command()
@source_arguments
@click.option(
    "--format", "target", type=click.Choice(["openslo"]), default="openslo", show_default=True, help="Format."
)
def export(source: tuple[str, ...], service: str, target: str) -> None:
    """Write SLOs in the format of another tool to standard output; fields that it does not have become annotations."""
    click.echo("---\n".join(generate_files(target, load_declarations(source, service)).values()), nl=False)


@click.command()
@click.argument("name", type=click.Choice(presets.PRESETS), required=False)
def preset(name: str | None) -> None:
    """Write the SLOs of one of the company's platforms as a template; without a name, list the presets."""
    if name is not None:
        click.echo(presets.read_preset(name), nl=False)
        return
    for preset_name in presets.PRESETS:
        click.echo(f"{preset_name:10} {presets.read_preset(preset_name).splitlines()[0].lstrip('# ')}")


def _write(files: Mapping[str, str], output: Path) -> int:
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = output / name
        state = "unchanged" if path.exists() and path.read_bytes() == content.encode() else "written"
        if state == "written":
            path.write_bytes(content.encode())
        click.echo(f"{path} {state}")
    return 0


def _check(files: Mapping[str, str], output: Path) -> int:
    differences = 0
    for name, content in files.items():
        path = output / name
        if not path.exists():
            click.echo(f"{path} is missing; run slo generate", err=True)
            differences += 1
        elif path.read_bytes() != content.encode():
            click.echo(f"{path} differs from its declaration; run slo generate", err=True)
            differences += 1
    if not differences:
        click.echo(f"{len(files)} files are up to date")
    return int(differences > 0)

"""The SLO pages of the documentation are complete and correct."""

from __future__ import annotations

import re
from pathlib import Path

from connectsoft_obs import slo, vocabulary
from connectsoft_obs.cli.slo.app import slo as commands
from connectsoft_obs.ops.slo.target_registry import TARGETS
from connectsoft_obs.slo import schema

DOCS = Path(__file__).parents[3] / "docs"


def test_reference_lists_all_kinds_keys_commands_and_recorded_series() -> None:
    page = (DOCS / "reference" / "slos.md").read_text()
    keys = set(schema.INDICATORS)
    tables = [*schema.INDICATORS.values(), schema.SLO_FILE]
    while tables:
        table = tables.pop()
        keys |= set(table.get("properties", ()))
        tables += [*table.get("properties", {}).values(), *([table["items"]] if "items" in table else [])]
    series = {value for value in vars(vocabulary).values() if isinstance(value, str) and value.startswith("slo:")}
    missing = {word for word in keys | series | set(commands.commands) if word not in page}
    assert missing == set()


def test_how_to_page_lists_all_targets() -> None:
    page = (DOCS / "how-to" / "slos.md").read_text()
    assert {target for target in TARGETS if f"`{target}`" not in page} == set()


def test_toml_examples_of_the_how_to_page_load(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "slos.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "slo.toml").write_text(block)
        assert slo.load(tmp_path / "slo.toml").slos

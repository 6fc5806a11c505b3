"""The pages about promises say what there is."""

from __future__ import annotations

import re
from pathlib import Path

from connectsoft_obs import slo, vocabulary
from connectsoft_obs.cli.slo.app import slo as commands
from connectsoft_obs.ops.slo.targets.registry import TARGETS
from connectsoft_obs.slo import serialization

DOCS = Path(__file__).parents[3] / "docs"


def test_the_reference_has_every_kind_key_command_and_recorded_series() -> None:
    page = (DOCS / "reference" / "slos.md").read_text()
    keys = {key for kind, rest in serialization._KINDS.items() for key in (kind, *rest)}
    keys |= {*serialization._SERVICE, *serialization._PROMETHEUS, *serialization._SLO, *serialization._ALERTING}
    names = {value for name, value in vars(vocabulary).items() if isinstance(value, str) and value.startswith("slo:")}
    missing = {word for word in keys | names | set(commands.commands) if not re.search(rf"{re.escape(word)}", page)}
    assert missing == set()


def test_every_target_is_on_the_page_that_says_how_to_generate() -> None:
    page = (DOCS / "how-to" / "slos.md").read_text()
    assert {target for target in TARGETS if f"`{target}`" not in page} == set()


def test_every_file_of_the_page_is_one_that_loads(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "slos.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "slo.toml").write_text(block)
        assert slo.load(tmp_path / "slo.toml").slos

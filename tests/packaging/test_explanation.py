"""Modules and files that the explanation pages, CONTRIBUTING.md and SECURITY.md name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "connectsoft_obs"
EXPLANATION = ROOT / "docs" / "explanation"
PAGES = sorted([*EXPLANATION.rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"])


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_glossary_modules_exist() -> None:
    rows = [
        line.split(" | ") for line in (EXPLANATION / "glossary.md").read_text().splitlines() if line.startswith("| ")
    ]
    modules = [module for row in rows for module in re.findall(r"`([a-z0-9_.]+)`", row[-1])]
    assert len(modules) > 40
    assert [module for module in modules if not is_module(module)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    text = page.read_text()
    paths = set(re.findall(r"\b(?:[\w.-]+/)+[\w-]+\.(?:py|md)\b", re.sub(r"\]\([^)]*\)", "", text)))
    assert [path for path in paths if not (ROOT / path).is_file() and not (PACKAGE / path).is_file()] == []


def test_architecture_page_lists_all_layers() -> None:
    match = re.search(r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert match
    layers = [set(re.findall(r"[a-z_]+", line)) for line in match[1].strip().splitlines()]
    first_cells = re.findall(r"^\| (`[^|]+`) \|", (EXPLANATION / "architecture.md").read_text(), re.MULTILINE)
    assert [set(re.findall(r"`([a-z_]+)`", cell)) for cell in first_cells] == layers

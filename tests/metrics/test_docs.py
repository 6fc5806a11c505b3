"""The pages about metrics: their code blocks run, and their links and settings exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import program_path

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = ["how-to/metrics.md", "explanation/cardinality.md", "explanation/multiprocess.md"]


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES[:2])
def test_python_blocks_of_a_page_run_as_one_script(page: str, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(code_blocks(page, "python")))
    completed = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert completed.returncode == 0, completed.stderr
    assert "Traceback" not in completed.stderr


def test_scrape_configuration_is_valid(tmp_path: Path) -> None:
    [content] = code_blocks("how-to/metrics.md", "yaml")
    (tmp_path / "prometheus.yml").write_text(content)
    command = [program_path("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.parametrize("page", PAGES)
def test_block_languages_links_and_settings_are_valid(page: str) -> None:
    text = (DOCS / page).read_text()
    assert set(re.findall(r"^```(.+)$", text, re.MULTILINE)) <= {"python", "yaml"}
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert ((DOCS / page).parent / link).exists(), link
    variables = {word for word in re.findall(r"`(CONNECTSOFT_OBS_\w+)`", text)}
    from connectsoft_obs.settings.variable_checks import _VARIABLES

    assert variables <= _VARIABLES.keys()

"""Every code block of the pages about metrics runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.servers import program_path

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = ["how-to/metrics.md", "explanation/cardinality.md", "explanation/multiprocess.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES[:2])
def test_the_python_of_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")))
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    [content] = blocks("how-to/metrics.md", "yaml")
    (tmp_path / "prometheus.yml").write_text(content)
    command = [program_path("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_its_language_and_every_link_leads_somewhere(page: str) -> None:
    text = (DOCS / page).read_text()
    assert set(re.findall(r"^```(.+)$", text, re.MULTILINE)) <= {"python", "yaml"}
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert ((DOCS / page).parent / link).exists(), link
    variables = {word for word in re.findall(r"`(CONNECTSOFT_OBS_\w+)`", text)}
    from connectsoft_obs.settings.loader import _VARIABLES

    assert variables <= _VARIABLES.keys()

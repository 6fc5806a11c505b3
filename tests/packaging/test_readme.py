"""The README is true: its snippets run, its tables name what exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.process import Service, uvicorn

from connectsoft_obs.endpoints import EndpointRouter
from connectsoft_obs.settings import FIELDS, Settings, variable
from connectsoft_obs.settings.fields import PREFIX
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing import capture

README = (Path(__file__).parents[2] / "README.md").read_text()
Real = tuple[Service, str]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_every_python_snippet_runs_in_order() -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    with capture():
        for number, code in enumerate(blocks("python")):
            exec(compile(code, f"README.md, snippet {number + 1}", "exec"), names)  # noqa: S102  that is the test


def test_the_two_commands_are_one_line_each_and_name_sessions_that_exist() -> None:
    commands = blocks("console")
    assert len(commands) == 2
    sessions = (Path(__file__).parents[2] / "noxfile.py").read_text()
    for command in commands:
        assert command.count("\n") == 1
        name = command.rstrip().rpartition(" ")[2]
        assert f"def {name}(session" in sessions
    assert README.index(commands[0]) < README.index("## ")


def test_the_endpoint_table_is_what_is_answered() -> None:
    table = README[README.index("| path |") : README.index("A request produces")]
    named = set(re.findall(r"`(/[a-z/]+)`", table))
    assert named == set(EndpointRouter(Telemetry(Settings(), exports=False)).pages)


def test_every_variable_in_the_table_is_read() -> None:
    known = {variable(name, field.metadata["env"]) for name, field in FIELDS.items()}
    table = README[README.index("| variable |") :]
    named = set(re.findall(r"`((?:OTEL|CONNECTSOFT|LOG)_[A-Z_]+)`", table))
    assert named <= known
    assert [name for name in named if name.startswith(PREFIX)]


@pytest.fixture(scope="module")
def real() -> Real:
    with uvicorn("readme:app") as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/orders/42", headers={"user-agent": "curl/8.5.0"})
        page = httpx.get(f"{service.url}/metrics", headers={"accept": "application/openmetrics-text"}).text
        service.stop()
        return service, page


def test_the_log_line_has_the_keys_and_types_of_a_real_one(real: Real) -> None:
    service, _ = real
    [shown] = [json.loads(block) for block in blocks("json")]
    [line] = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]
    assert list(shown) == list(line)
    assert {key: type(value) for key, value in shown.items()} == {key: type(value) for key, value in line.items()}
    assert shown["message"] == line["message"]


def test_the_metric_excerpt_has_the_labels_of_a_real_one(real: Real) -> None:
    _, page = real
    [shown] = [block for block in blocks("text") if block.startswith("http_server")]
    series, _, rest = shown.partition("} ")
    labels = re.escape(series.rpartition(",le=")[0])  # in which bucket it falls depends on the machine
    assert re.search(labels + r',le="[\d.e+]+"\} 1(\.0)? # \{trace_id=', page)
    assert re.fullmatch(r'1 # \{trace_id="\w{32}",span_id="\w{16}"\} \S+ \S+', rest.strip())


def test_every_row_of_the_comparison_names_a_test_that_exists() -> None:
    root = Path(__file__).parents[2]
    table = README[README.index("## Comparison with other libraries") : README.index("Every entry for this package")]
    rows = [line.split(" | ")[0].lstrip("| ") for line in table.splitlines() if line.startswith("| ")][1:]
    page = (root / "docs/explanation/comparison.md").read_text()
    assert len(rows) > 10
    for row in rows:
        [evidence] = [line for line in page.splitlines() if line.startswith(f"| {row} |")]
        tests = re.findall(r"`(tests/[a-z_/]+\.py)`", evidence)
        assert tests, row
        assert all((root / test).is_file() for test in tests), row
        assert "*read*" in evidence or "*run*" in evidence


def test_performance_section_matches_results() -> None:
    report = Path(__file__).parents[1] / "bench" / "report.py"
    command = [sys.executable, str(report), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, f"run `python tests/bench/report.py`\n{result.stdout}{result.stderr}"


def test_links_lead_to_files_that_exist() -> None:
    root = Path(__file__).parents[2]
    for page in (root / "README.md", *root.glob("docs/**/*.md"), *root.glob("examples/**/*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            generated = target.endswith(("settings.md", "vocabulary.md")) or "pictures/" in target  # by docs/conf.py
            assert generated or (page.parent / target).exists(), f"{page.relative_to(root)}: {target}"

"""The README: its snippets run, and its tables and examples match the code."""

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
ServiceOutput = tuple[Service, str]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_every_python_snippet_runs_in_order() -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    with capture():
        for number, code in enumerate(blocks("python")):
            exec(compile(code, f"README.md, snippet {number + 1}", "exec"), names)  # noqa: S102  that is the test


def test_commands_are_one_line_and_name_existing_sessions() -> None:
    commands = blocks("console")
    assert len(commands) == 2
    sessions = (Path(__file__).parents[2] / "noxfile.py").read_text()
    for command in commands:
        assert command.count("\n") == 1
        name = command.rstrip().rpartition(" ")[2]
        assert f"def {name}(session" in sessions
    assert README.index(commands[0]) < README.index("## ")


def test_endpoint_table_lists_every_endpoint() -> None:
    table = README[README.index("| path |") : README.index("A request produces")]
    documented = set(re.findall(r"`(/[a-z/]+)`", table))
    assert documented == set(EndpointRouter(Telemetry(Settings(), exports=False)).setting_by_path)


def test_variable_table_lists_existing_variables() -> None:
    existing = {variable(name, field.metadata["env"]) for name, field in FIELDS.items()}
    table = README[README.index("| variable |") :]
    documented = set(re.findall(r"`((?:OTEL|CONNECTSOFT|LOG)_[A-Z_]+)`", table))
    assert documented <= existing
    assert [name for name in documented if name.startswith(PREFIX)]


@pytest.fixture(scope="module")
def service_output() -> ServiceOutput:
    with uvicorn("readme:app") as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/orders/42", headers={"user-agent": "curl/8.5.0"})
        page = httpx.get(f"{service.url}/metrics", headers={"accept": "application/openmetrics-text"}).text
        service.stop()
        return service, page


def test_log_line_has_the_keys_and_types_of_a_real_line(service_output: ServiceOutput) -> None:
    service, _ = service_output
    [documented] = [json.loads(block) for block in blocks("json")]
    [line] = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]
    assert list(documented) == list(line)
    assert {key: type(value) for key, value in documented.items()} == {key: type(value) for key, value in line.items()}
    assert documented["message"] == line["message"]


def test_metric_excerpt_has_the_labels_of_a_real_series(service_output: ServiceOutput) -> None:
    _, page = service_output
    [documented] = [block for block in blocks("text") if block.startswith("http_server")]
    series, _, rest = documented.partition("} ")
    labels = re.escape(series.rpartition(",le=")[0])  # in which bucket it falls depends on the machine
    assert re.search(labels + r',le="[\d.e+]+"\} 1(\.0)? # \{trace_id=', page)
    assert re.fullmatch(r'1 # \{trace_id="\w{32}",span_id="\w{16}"\} \S+ \S+', rest.strip())


def test_rows_of_the_comparison_name_existing_tests() -> None:
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

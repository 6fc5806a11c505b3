"""Durations: milliseconds in standard variables, seconds elsewhere; warnings and the settings reference name the unit."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from support.process import uvicorn

import connectsoft_obs as obs
from connectsoft_obs.settings import FIELDS, implausible_variables, load_settings, parsers, variable, variable_warnings

MILLISECONDS = [name for name, field in FIELDS.items() if field.metadata["reader"] is parsers.milliseconds]


def settings_page() -> str:
    path = Path(__file__).parents[2] / "docs" / "settings_page.py"
    spec = importlib.util.spec_from_file_location("settings_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.generate())


@pytest.mark.parametrize("name", MILLISECONDS)
def test_variable_that_is_probably_in_seconds_is_warned_about(name: str) -> None:
    env = variable(name, FIELDS[name].metadata["env"])
    environ = {env: "30"}
    [warning] = implausible_variables(environ, load_settings(environ))
    assert warning == f"{env}=30 is 30 milliseconds; write 30000 for 30 seconds"
    assert variable_warnings({env: "5000"}, load_settings({env: "5000"})) == []


@pytest.mark.parametrize("text", ["0", "-5", "nan"])
@pytest.mark.parametrize("name", MILLISECONDS)
def test_duration_that_is_not_above_zero_is_ignored(name: str, text: str) -> None:
    environ = {variable(name, FIELDS[name].metadata["env"]): text}
    settings = load_settings(environ)
    assert settings == load_settings({})
    assert len(variable_warnings(environ, settings)) == 1
    with pytest.raises(obs.ConfigurationError):
        load_settings({}, **{name: 0})


def test_interval_in_seconds_is_logged_as_one_warning() -> None:
    with uvicorn("orders:app", env={"OTEL_METRIC_EXPORT_INTERVAL": "30"}) as service:
        service.wait_until_ready()
        service.stop()
    [line] = [line for line in service.json_lines if line["severity"] == "WARN"]
    assert "milliseconds" in line["message"]


def test_settings_reference_shows_units_of_variable_and_argument() -> None:
    page = settings_page()
    [row] = [line for line in page.splitlines() if "OTEL_METRIC_EXPORT_INTERVAL" in line]
    assert "`60000` ms in the variable, `60` s as an argument" in row
    [row] = [line for line in page.splitlines() if "CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT" in line]
    assert "`5` s" in row
    assert "a number of seconds" in row


def test_settings_reference_lists_each_setting_once_under_a_subject() -> None:
    page = settings_page()
    rows = [line.partition("<br>")[0] for line in page.splitlines() if "<br>" in line]
    assert rows == [f"| `{name}`" for name in FIELDS]
    assert page.count("\n## ") > 8


def test_settings_reference_fits_the_width_of_a_page() -> None:
    """Text of 736 pixels beside two side bars, on a screen of 1366 pixels; a character has 7.8 pixels in code, 6.5 in text."""
    widths = [0, 0]
    for row in settings_page().splitlines():
        if row.startswith("| `"):
            cells = re.split(r"(?<!\\)\|", row.strip("| "))
            assert len(cells) == 2, row
            for column, cell in enumerate(cells):
                widths[column] = max(widths[column], *map(len, re.split(r"<br>|\s", cell.replace("`", ""))))
    assert widths[0] * 7.8 + widths[1] * 6.5 + 4 * 12 <= 736, widths

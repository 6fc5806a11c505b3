"""Type checks of settings as arguments of `configure()`, `worker()` and the middleware."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from connectsoft_obs.settings import FIELDS, SettingsArguments

IDENTITY = ["service", "namespace", "version", "environment"]
ARGUMENT_TYPES = {
    "Mapping[str, str]": "Mapping[str, str] | str",
    "re.Pattern[str]": "re.Pattern[str] | str",
    "tuple[Network, ...]": "Strings",
    "tuple[str, ...]": "Strings",
    "tuple[Any, ...]": "Any",
}
"""Types of arguments, where the parser accepts more than the type of the field."""

CORRECT = """
import connectsoft_obs as obs
from starlette.applications import Starlette

app = Starlette()
app.add_middleware(obs.ObservabilityMiddleware, service="shop", access_log="errors", request_headers=("x-version",))
obs.ObservabilityMiddleware(app, service="shop", drain_delay=None, trusted_proxies="10.0.0.0/8", sampler=None)
obs.configure(service="shop", metric_interval=30, resource_attributes={"team": "a"}, otlp_insecure=True)
obs.worker(service="shop", drain_timeout=5.0)
"""
WRONG = """
import connectsoft_obs as obs
from starlette.applications import Starlette

app = Starlette()
obs.ObservabilityMiddleware(app, service="shop", acces_log="errors")
obs.ObservabilityMiddleware(app, service="shop", drain_delay="soon")
obs.configure(service="shop", metric_intervall=30)
obs.configure(service="shop", otlp_insecure="yes")
obs.worker(service="shop", drain_timeouts=5.0)
obs.worker(service="shop", cardinality_limit="many")
app.add_middleware(obs.ObservabilityMiddleware, acces_log="errors")
"""


def mypy(path: Path, code: str) -> str:
    path.write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent"]
    command += ["--config-file=", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    return result.stdout + result.stderr


def test_argument_types_follow_the_fields() -> None:
    expected = {}
    for name, field in FIELDS.items():
        if name not in IDENTITY:
            type_of_value = str(field.type).removesuffix(" | None")
            type_of_argument = ARGUMENT_TYPES.get(type_of_value, type_of_value)
            expected[name] = type_of_argument if type_of_argument == "Any" else f"{type_of_argument} | None"
    types = {name: reference.__forward_arg__ for name, reference in SettingsArguments.__annotations__.items()}
    assert types == expected


def test_correct_arguments_pass_the_type_check(tmp_path: Path) -> None:
    assert "Success" in (output := mypy(tmp_path / "service.py", CORRECT)), output


def test_wrong_names_and_types_fail_the_type_check(tmp_path: Path) -> None:
    output = mypy(tmp_path / "service.py", WRONG)
    wrong_lines = {number for number, line in enumerate(WRONG.splitlines(), 1) if "obs." in line}
    assert {int(number) for number in re.findall(r"service.py:(\d+): error", output)} == wrong_lines, output

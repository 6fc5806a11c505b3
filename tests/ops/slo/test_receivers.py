"""Alertmanager accepts the generated receivers, which contain paths of secrets and no secrets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from support.servers import program_path

from connectsoft_obs import slo
from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.ops.slo.target_registry import generate_files
from connectsoft_obs.slo.loader import to_toml

TOML = """
[service]
name = "shop"
[receivers]
sev1 = { type = "pagerduty", secret_file = "/secrets/pagerduty" }
sev2 = { type = "opsgenie", secret_file = "/secrets/opsgenie" }
sev3 = { type = "slack", secret_file = "/secrets/slack", channel = "#shop" }
[[slo]]
name = "api"
objective = 99.9
sli = { kind = "http_availability" }
"""


def test_alertmanager_routes_each_severity_to_its_receiver(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text(TOML)
    service_slos = slo.load(tmp_path / "slo.toml")
    (tmp_path / "again.toml").write_text(to_toml(service_slos))
    assert slo.load(tmp_path / "again.toml") == service_slos
    configuration = tmp_path / "alertmanager.yaml"
    configuration.write_text(generate_files("alertmanager", [service_slos, slo.preset("bot")])["alertmanager.yaml"])
    amtool = program_path("amtool")
    checked = subprocess.run([amtool, "check-config", configuration], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for service, severity, receiver in (
        ("shop", "Sev1", "shop-page-sev1"), ("shop", "Sev2", "shop-page-sev2"), ("shop", "Sev3", "shop-operations"),
        ("shop", "review", "reviews"), ("bot", "Sev1", "page-sev1"),
    ):  # fmt: skip
        command = [amtool, "config", "routes", "test", f"--config.file={configuration}"]
        command += [f"service={service}", f"severity={severity}"]
        routed = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert routed.stdout.strip() == receiver, routed.stderr
    receivers = {item["name"]: item for item in yaml.safe_load(configuration.read_text())["receivers"]}
    assert receivers["shop-page-sev1"]["pagerduty_configs"] == [{"routing_key_file": "/secrets/pagerduty"}]


SLACK = '{ type = "slack", secret_file = "/secrets/slack", channel = "#shop" }'


@pytest.mark.parametrize(
    ("text", "replacement"),
    [
        ("/secrets/slack", "xoxb-1"),
        (SLACK, '"https://hooks.example/xoxb-1"'),
        (SLACK, '["https://hooks.example/xoxb-1"]'),
        ('type = "slack"', 'type = "xoxb-1"'),
        ("#shop", "https://hooks.example/xoxb-1"),
        ('type = "opsgenie"', 'channel = "xoxb-1", type = "opsgenie"'),
        ("[receivers]", '[[receivers]]\nsev4 = "xoxb-1"'),
    ],
)
def test_a_secret_in_a_wrong_place_is_rejected_and_not_shown(tmp_path: Path, text: str, replacement: str) -> None:
    assert text in TOML
    (tmp_path / "slo.toml").write_text(TOML.replace(text, replacement))
    with pytest.raises(ConfigurationError, match="receivers") as error:
        slo.load(tmp_path / "slo.toml")
    assert "xoxb" not in str(error.value)

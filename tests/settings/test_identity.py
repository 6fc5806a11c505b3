"""Detection of the service identity from environment variables."""

from __future__ import annotations

import socket
import uuid

import pytest

from connectsoft_obs.identity import Platform, detect, identify
from connectsoft_obs.settings import load_settings

APP = {
    "CONTAINER_APP_NAME": "orders",
    "CONTAINER_APP_REVISION": "orders--v7",
    "CONTAINER_APP_REPLICA_NAME": "orders--v7-5d4b-abcde",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
}
JOB = {"CONTAINER_APP_JOB_NAME": "nightly", "CONTAINER_APP_JOB_EXECUTION_NAME": "nightly-x1"}
SITE = {
    "WEBSITE_SITE_NAME": "shop",
    "WEBSITE_SLOT_NAME": "staging",
    "WEBSITE_INSTANCE_ID": "abc123",
    "WEBSITE_RESOURCE_GROUP": "rg",
    "WEBSITE_OWNER_NAME": "sub-1+rg-westeurope",
    "REGION_NAME": "West Europe",
}
POD = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "HOSTNAME": "orders-api-6d4cf56db6-x7k2p",
    "K8S_NAMESPACE": "shop",
    "K8S_NODE_NAME": "aks-1",
}
UNIT = {"NOTIFY_SOCKET": "/run/systemd/notify"}


@pytest.mark.parametrize(
    ("environ", "platform", "service", "expected"),
    [
        (
            APP,
            Platform.CONTAINER_APPS,
            "orders",
            {
                "cloud.platform": "azure.container_apps",
                "connectsoft.revision": "orders--v7",
                "connectsoft.replica.name": "orders--v7-5d4b-abcde",
            },
        ),
        (JOB, Platform.CONTAINER_APPS, "nightly", {"connectsoft.replica.name": "nightly-x1"}),
        (
            SITE,
            Platform.APP_SERVICE,
            "shop",
            {
                "cloud.platform": "azure.app_service",
                "cloud.region": "West Europe",
                "cloud.account.id": "sub-1",
                "azure.resource_group.name": "rg",
                "cloud.resource_id": "/subscriptions/sub-1/resourceGroups/rg/providers/Microsoft.Web/sites/shop",
                "host.id": "abc123",
                "connectsoft.slot.name": "staging",
                "deployment.environment.name": "production",
            },
        ),
        (
            POD,
            Platform.AKS,
            "orders-api",
            {
                "cloud.platform": "azure.aks",
                "k8s.pod.name": "orders-api-6d4cf56db6-x7k2p",
                "k8s.namespace.name": "shop",
                "k8s.node.name": "aks-1",
                "k8s.deployment.name": "orders-api",
                "connectsoft.revision": "6d4cf56db6",
            },
        ),
        (UNIT, Platform.VM, "unknown_service:python", {"cloud.platform": "azure.vm"}),
        ({}, Platform.LOCAL, "unknown_service:python", {}),
    ],
)
def test_platform_is_detected_from_its_variables(
    environ: dict[str, str],
    platform: Platform,
    service: str,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        message = "network access during startup"
        raise AssertionError(message)

    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    identity = identify(load_settings(environ), environ)
    assert identity.platform is platform
    assert identity.service == service
    assert expected.items() <= identity.attributes.items()
    if platform is Platform.LOCAL:
        assert "cloud.provider" not in identity.attributes


def test_systemd_invocation_without_a_journal_is_not_a_service() -> None:
    assert detect({"INVOCATION_ID": "x"}).platform is Platform.LOCAL
    assert detect({"INVOCATION_ID": "x", "JOURNAL_STREAM": "8:1"}).platform is Platform.VM


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("dev", "development"),
        ("Development", "development"),
        ("stage", "staging"),
        ("PROD", "production"),
        ("qa", "test"),
        ("Hotfix", "hotfix"),
        (None, "production"),
    ],
)
def test_environment_names_are_normalized(environment: str | None, expected: str) -> None:
    identity = identify(load_settings({}, environment=environment), {})
    assert identity.environment == identity.attributes["deployment.environment.name"] == expected


def test_dotnet_variables_are_the_fallback_for_the_environment() -> None:
    assert identify(load_settings({}), {"DOTNET_ENVIRONMENT": "Staging"}).environment == "staging"
    assert (
        identify(load_settings({}, environment="test"), {"ASPNETCORE_ENVIRONMENT": "Production"}).environment == "test"
    )


def test_configured_attributes_override_detected_ones() -> None:
    environ = {**POD, "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=mine,connectsoft.revision=r9"}
    identity = identify(load_settings(environ, service="named"), environ)
    assert identity.service == "named"
    assert identity.attributes["k8s.pod.name"] == "mine"
    assert identity.revision == "r9"


def test_instance_id_of_a_forked_process_is_a_new_uuid() -> None:
    identity = identify(load_settings({}), {})
    child = identity.for_this_process()
    assert uuid.UUID(identity.instance).version == 4
    assert child.instance != identity.instance
    assert child.service == identity.service


def test_host_architecture_is_a_value_of_the_convention() -> None:
    assert identify(load_settings({}), {}).attributes["host.arch"] in {
        "amd64",
        "arm32",
        "arm64",
        "ia64",
        "ppc32",
        "ppc64",
        "s390x",
        "x86",
    }

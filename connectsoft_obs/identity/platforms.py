"""Detects the platform from environment variables only, without reading files or calling metadata services."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from connectsoft_obs.vocabulary import REVISION


class Platform(StrEnum):
    """Platforms with known probes and grace periods; LOCAL is anything else."""

    CONTAINER_APPS = "azure.container_apps"
    APP_SERVICE = "azure.app_service"
    AKS = "azure.aks"
    VM = "azure.vm"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class DetectedPlatform:
    """A platform with the service name and resource attributes that it provides."""

    platform: Platform
    service: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def detect(environ: Mapping[str, str]) -> DetectedPlatform:
    """Detect the platform. Container Apps come before Kubernetes because they run on it."""
    if environ.get("CONTAINER_APP_NAME") or environ.get("CONTAINER_APP_JOB_NAME"):
        return _container_apps(environ)
    if environ.get("WEBSITE_SITE_NAME"):
        return _app_service(environ)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return _kubernetes(environ)
    # INVOCATION_ID is also set in a terminal that systemd started; only the output of a service goes to the journal.
    if environ.get("NOTIFY_SOCKET") or (environ.get("INVOCATION_ID") and environ.get("JOURNAL_STREAM")):
        return DetectedPlatform(Platform.VM, None, _azure(Platform.VM, {}))
    return DetectedPlatform(Platform.LOCAL)


def _azure(platform: Platform, attributes: Mapping[str, str | None]) -> dict[str, str]:
    cloud = {"cloud.provider": "azure", "cloud.platform": platform.value}
    return cloud | {name: value for name, value in attributes.items() if value}


def _container_apps(environ: Mapping[str, str]) -> DetectedPlatform:
    attributes = {
        REVISION: environ.get("CONTAINER_APP_REVISION"),
        "connectsoft.replica.name": environ.get("CONTAINER_APP_REPLICA_NAME")
        or environ.get("CONTAINER_APP_JOB_EXECUTION_NAME"),
    }
    name = environ.get("CONTAINER_APP_NAME") or environ.get("CONTAINER_APP_JOB_NAME")
    return DetectedPlatform(Platform.CONTAINER_APPS, name, _azure(Platform.CONTAINER_APPS, attributes))


def _app_service(environ: Mapping[str, str]) -> DetectedPlatform:
    site = environ["WEBSITE_SITE_NAME"]
    subscription = environ.get("WEBSITE_OWNER_NAME", "").partition("+")[0]
    group = environ.get("WEBSITE_RESOURCE_GROUP")
    resource = (
        f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web/sites/{site}"
        if subscription and group
        else None
    )
    slot = environ.get("WEBSITE_SLOT_NAME")
    attributes = {
        "cloud.region": environ.get("REGION_NAME"),
        "cloud.account.id": subscription,
        "cloud.resource_id": resource,
        "azure.resource_group.name": group,
        "host.id": environ.get("WEBSITE_INSTANCE_ID"),
        "connectsoft.slot.name": slot,
        REVISION: slot,
    }
    return DetectedPlatform(Platform.APP_SERVICE, site, _azure(Platform.APP_SERVICE, attributes))


# Pods of a Deployment are named <deployment>-<ReplicaSet hash>-<suffix>; hash and suffix use an alphabet without vowels.
_POD = re.compile(r"(?P<deployment>.+)-(?P<hash>[bcdfghjklmnpqrstvwxz2456789]{6,10})-[bcdfghjklmnpqrstvwxz2456789]{5}")


def _kubernetes(environ: Mapping[str, str]) -> DetectedPlatform:
    pod = environ.get("K8S_POD_NAME") or environ.get("POD_NAME") or environ.get("HOSTNAME", "")
    pod_name = _POD.fullmatch(pod)
    deployment = pod_name["deployment"] if pod_name else None
    attributes = {
        "k8s.pod.name": pod,
        "k8s.pod.uid": environ.get("K8S_POD_UID") or environ.get("POD_UID"),
        "k8s.namespace.name": environ.get("K8S_NAMESPACE") or environ.get("POD_NAMESPACE"),
        "k8s.node.name": environ.get("K8S_NODE_NAME") or environ.get("NODE_NAME"),
        "k8s.container.name": environ.get("K8S_CONTAINER_NAME"),
        "k8s.cluster.name": environ.get("K8S_CLUSTER_NAME"),
        "k8s.deployment.name": deployment,
        REVISION: pod_name["hash"] if pod_name else None,
    }
    return DetectedPlatform(Platform.AKS, deployment, _azure(Platform.AKS, attributes))

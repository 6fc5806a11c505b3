"""Health endpoints seen by the probes of each platform and load balancer.

Status codes, bodies, redirects and timeouts follow the documentation of each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.process import Service, free_port, uvicorn, wait_for

IsHealthy = Callable[[httpx.Response], bool]
KUBELET_TIMEOUT = 1.0


@dataclass(frozen=True)
class Prober:
    """Request of one platform or load balancer, and its definition of healthy."""

    path: str
    is_healthy: IsHealthy
    timeout: float
    headers: dict[str, str]
    method: str = "GET"

    def succeeds(self, service: Service) -> bool:
        try:
            response = httpx.request(
                self.method, service.url + self.path, headers=self.headers, timeout=self.timeout, follow_redirects=False
            )
        except httpx.TransportError:
            return False
        return self.is_healthy(response)


def status_between(low: int, high: int) -> IsHealthy:
    return lambda response: low <= response.status_code <= high


def rich_health_state(response: httpx.Response) -> bool:
    """VM application health extension with rich health states: 2xx and a state in the body; otherwise Unknown."""
    return response.is_success and json.loads(response.content)["ApplicationHealthState"] == "Healthy"


def body_contains(text: str) -> IsHealthy:
    """Application Gateway with a body match; it reads 4,090 characters of the body."""
    return lambda response: 200 <= response.status_code <= 399 and text in response.text[:4090]


def health_checks_ui(response: httpx.Response) -> bool:
    """The .NET Health Checks UI reads the body and ignores the status code."""
    return response.json()["status"] in ("Healthy", "Degraded") and isinstance(response.json()["entries"], dict)


READY, STARTUP, HEALTH = "/health/ready", "/health/startup", "/health"
PROBERS = {
    "kubelet readiness": Prober(
        READY, status_between(200, 399), KUBELET_TIMEOUT, {"user-agent": "kube-probe/1.33", "accept": "*/*"}
    ),
    "Container Apps": Prober(READY, status_between(200, 399), KUBELET_TIMEOUT, {"user-agent": "kube-probe/1.33"}),
    "App Service health check": Prober(READY, status_between(200, 299), 60, {"user-agent": "HealthCheck/1.0"}),
    "App Service swap warm-up": Prober(READY, status_between(200, 200), 90, {"user-agent": "SiteWarmup"}),
    "Application Gateway": Prober(READY, status_between(200, 399), 30, {"host": "127.0.0.1"}),
    "Application Gateway, body": Prober(READY, body_contains('"ApplicationHealthState":"Healthy"'), 30, {}),
    "Azure Load Balancer": Prober(READY, status_between(200, 200), 30, {"user-agent": "Load Balancer Agent"}),
    "Front Door": Prober(READY, status_between(200, 200), 30, {"user-agent": "Edge Health Probe"}, method="HEAD"),
    "VM extension, binary": Prober(READY, status_between(200, 200), 30, {}),
    "VM extension, rich": Prober(READY, rich_health_state, 30, {}),
    "Health Checks UI": Prober(HEALTH, health_checks_ui, 5, {"accept": "application/json"}),
}


@pytest.fixture(scope="module")
def check_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probes") / "failure"


@pytest.fixture(scope="module")
def service(check_file: Path) -> Iterator[tuple[Service, int]]:
    port = free_port()
    env = {"CHECKS": "file optional", "CHECKED_FILE": str(check_file), "GRPC_PORT": str(port)}
    with uvicorn("lifecycle:app", env=env) as process:
        yield process.wait_until_ready(), port


@pytest.mark.parametrize("name", PROBERS)
def test_probe_accepts_degraded_and_rejects_unhealthy(
    name: str, service: tuple[Service, int], check_file: Path
) -> None:
    process, _ = service
    prober = PROBERS[name]
    check_file.write_text("")
    wait_for(lambda: prober.succeeds(process), 5, f"{name}: healthy")
    assert httpx.get(process.url + READY).json()["status"] == "Degraded"
    check_file.write_text("down")
    wait_for(lambda: not prober.succeeds(process), 5, f"{name}: unhealthy")
    check_file.write_text("")
    wait_for(lambda: prober.succeeds(process), 5, f"{name}: healthy again")


def test_grpc_probe_reports_the_same_state(service: tuple[Service, int], check_file: Path) -> None:
    process, port = service
    check_file.write_text("")
    wait_for(lambda: httpx.get(process.url + READY).status_code == 200)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def serving(name: str) -> bool:
            response = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=KUBELET_TIMEOUT)
            return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

        assert all(serving(name) for name in ("", "readiness", "liveness", "startup", "shop.Orders"))
        check_file.write_text("down")
        wait_for(lambda: not serving("readiness"), 5)
        assert not serving("")
        assert not serving("shop.Orders")
        assert serving("liveness")
        assert serving("startup")
        check_file.write_text("")
        wait_for(lambda: serving("readiness"), 5)


@pytest.mark.parametrize("path", ["/health/live", "/alive"])
def test_liveness_probe_passes_while_a_dependency_fails(
    path: str, service: tuple[Service, int], check_file: Path
) -> None:
    process, _ = service
    check_file.write_text("down")
    wait_for(lambda: httpx.get(process.url + READY).status_code == 503, 5)
    response = httpx.get(process.url + path, headers={"user-agent": "kube-probe/1.33"}, timeout=KUBELET_TIMEOUT)
    check_file.write_text("")
    assert response.status_code == 200


@pytest.mark.parametrize("name", ["kubelet startup", "Container Apps startup", "App Service warm-up"])
def test_startup_probe_passes_after_the_startup_tasks_and_keeps_passing(name: str, tmp_path: Path) -> None:
    prober = Prober(
        STARTUP, status_between(200, 200) if "App Service" in name else status_between(200, 399), KUBELET_TIMEOUT, {}
    )
    env = {"CHECKS": "task file", "TASK_FILE": str(tmp_path / "done"), "CHECKED_FILE": str(tmp_path / "failure")}
    with uvicorn("lifecycle:app", env=env) as process:
        process.wait_until_ready("/health/live")
        assert not prober.succeeds(process)
        assert httpx.get(process.url + READY).status_code == 503
        (tmp_path / "done").touch()
        wait_for(lambda: prober.succeeds(process), 5)
        (tmp_path / "failure").write_text("down")
        wait_for(lambda: httpx.get(process.url + READY).status_code == 503, 5)
        assert prober.succeeds(process)


def test_responses_are_200_or_503_without_redirect_or_caching(service: tuple[Service, int], check_file: Path) -> None:
    process, _ = service
    check_file.write_text("")
    for path in ("/health/live", "/alive", READY, STARTUP, "/startup", HEALTH):
        for method in ("GET", "HEAD"):
            response = httpx.request(method, process.url + path, follow_redirects=False)
            assert response.status_code in (200, 503)
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["content-type"] == "application/json"
            assert int(response.headers["content-length"]) > 0
            assert bool(response.content) is (method == "GET")

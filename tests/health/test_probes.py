"""Every prober that a service meets counts it as healthy when it is, and only then: one row each.

The rules are those of the probers' documentation: which codes, which body, redirects, and who waits how long.
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

Healthy = Callable[[httpx.Response], bool]
SECOND = 1.0


@dataclass(frozen=True)
class Prober:
    """How one prober asks, and what it calls healthy."""

    path: str
    healthy: Healthy
    timeout: float
    headers: dict[str, str]
    method: str = "GET"

    def asks(self, service: Service) -> bool:
        try:
            answer = httpx.request(
                self.method, service.url + self.path, headers=self.headers, timeout=self.timeout, follow_redirects=False
            )
        except httpx.TransportError:
            return False
        return self.healthy(answer)


def codes(low: int, high: int) -> Healthy:
    return lambda answer: low <= answer.status_code <= high


def rich(answer: httpx.Response) -> bool:
    """The VM application health extension in its rich form: 2xx and a word in the body; anything else is Unknown."""
    return answer.is_success and json.loads(answer.content)["ApplicationHealthState"] == "Healthy"


def body_contains(word: str) -> Healthy:
    """Application Gateway with a body match, of which it reads 4,090 characters."""
    return lambda answer: 200 <= answer.status_code <= 399 and word in answer.text[:4090]


def health_checks_ui(answer: httpx.Response) -> bool:
    """The .NET Health Checks UI reads the body, whatever the code."""
    return answer.json()["status"] in ("Healthy", "Degraded") and isinstance(answer.json()["entries"], dict)


READY, STARTUP, WHOLE = "/health/ready", "/health/startup", "/health"
PROBERS = {
    "kubelet readiness": Prober(READY, codes(200, 399), SECOND, {"user-agent": "kube-probe/1.33", "accept": "*/*"}),
    "Container Apps": Prober(READY, codes(200, 399), SECOND, {"user-agent": "kube-probe/1.33"}),
    "App Service health check": Prober(READY, codes(200, 299), 60, {"user-agent": "HealthCheck/1.0"}),
    "App Service swap warm-up": Prober(READY, codes(200, 200), 90, {"user-agent": "SiteWarmup"}),
    "Application Gateway": Prober(READY, codes(200, 399), 30, {"host": "127.0.0.1"}),
    "Application Gateway, body": Prober(READY, body_contains('"ApplicationHealthState":"Healthy"'), 30, {}),
    "Azure Load Balancer": Prober(READY, codes(200, 200), 30, {"user-agent": "Load Balancer Agent"}),
    "Front Door": Prober(READY, codes(200, 200), 30, {"user-agent": "Edge Health Probe"}, method="HEAD"),
    "VM extension, binary": Prober(READY, codes(200, 200), 30, {}),
    "VM extension, rich": Prober(READY, rich, 30, {}),
    "Health Checks UI": Prober(WHOLE, health_checks_ui, 5, {"accept": "application/json"}),
}


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probers") / "word"


@pytest.fixture(scope="module")
def service(switch: Path) -> Iterator[tuple[Service, int]]:
    port = free_port()
    env = {"CHECKS": "file optional", "CHECKED_FILE": str(switch), "GRPC_PORT": str(port)}
    with uvicorn("lifecycle:app", env=env) as found:
        yield found.ready(), port


@pytest.mark.parametrize("name", PROBERS)
def test_a_prober_sees_a_degraded_service_as_healthy_and_a_failing_one_as_not(
    name: str, service: tuple[Service, int], switch: Path
) -> None:
    found, _ = service
    prober = PROBERS[name]
    switch.write_text("")
    wait_for(lambda: prober.asks(found), 5, f"{name} calls it healthy")
    assert httpx.get(found.url + READY).json()["status"] == "Degraded"
    switch.write_text("down")
    wait_for(lambda: not prober.asks(found), 5, f"{name} calls it unhealthy")
    switch.write_text("")
    wait_for(lambda: prober.asks(found), 5, f"{name} calls it healthy again")


def test_a_grpc_prober_sees_the_same(service: tuple[Service, int], switch: Path) -> None:
    found, port = service
    switch.write_text("")
    wait_for(lambda: httpx.get(found.url + READY).status_code == 200)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def serving(name: str) -> bool:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECOND)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        assert all(serving(name) for name in ("", "readiness", "liveness", "startup", "shop.Orders"))
        switch.write_text("down")
        wait_for(lambda: not serving("readiness"), 5)
        assert not serving("")
        assert not serving("shop.Orders")
        assert serving("liveness")
        assert serving("startup")
        switch.write_text("")
        wait_for(lambda: serving("readiness"), 5)


@pytest.mark.parametrize("path", ["/health/live", "/alive"])
def test_a_liveness_prober_does_not_restart_what_a_dependency_broke(
    path: str, service: tuple[Service, int], switch: Path
) -> None:
    found, _ = service
    switch.write_text("down")
    wait_for(lambda: httpx.get(found.url + READY).status_code == 503, 5)
    answer = httpx.get(found.url + path, headers={"user-agent": "kube-probe/1.33"}, timeout=SECOND)
    switch.write_text("")
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["kubelet startup", "Container Apps startup", "App Service warm-up"])
def test_a_startup_prober_waits_for_the_tasks_and_then_never_again(name: str, tmp_path: Path) -> None:
    prober = Prober(STARTUP, codes(200, 200) if "App Service" in name else codes(200, 399), SECOND, {})
    env = {"CHECKS": "task file", "TASK_FILE": str(tmp_path / "done"), "CHECKED_FILE": str(tmp_path / "word")}
    with uvicorn("lifecycle:app", env=env) as found:
        found.ready("/health/live")
        assert not prober.asks(found)
        assert httpx.get(found.url + READY).status_code == 503
        (tmp_path / "done").touch()
        wait_for(lambda: prober.asks(found), 5)
        (tmp_path / "word").write_text("down")
        wait_for(lambda: httpx.get(found.url + READY).status_code == 503, 5)
        assert prober.asks(found)


def test_answers_are_never_cached_never_redirects_and_nothing_but_200_and_503(
    service: tuple[Service, int], switch: Path
) -> None:
    found, _ = service
    switch.write_text("")
    for path in ("/health/live", "/alive", READY, STARTUP, "/startup", WHOLE):
        for method in ("GET", "HEAD"):
            answer = httpx.request(method, found.url + path, follow_redirects=False)
            assert answer.status_code in (200, 503)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["content-type"] == "application/json"
            assert int(answer.headers["content-length"]) > 0
            assert bool(answer.content) is (method == "GET")

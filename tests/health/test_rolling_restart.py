"""Rolling restarts behind a load balancer: no request fails with the middleware, dozens fail without it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from support.asgi_server_commands import SERVERS_WITH_DELAYED_SIGTERM, start_server
from support.load_balancer import BackgroundTasks, Clients, LoadBalancer, stable_port
from support.process import Service, wait_for

DELAY = 2.5
"""Drain delay in seconds: a little more than two probe periods of the load balancer."""


def restart_instances(
    server: str, app: str, restarts: int, stop: Callable[[Service, LoadBalancer], None]
) -> tuple[int, int, str]:
    """Restart two instances in turn, and return the number of requests and of failures, and a description of them."""
    env = {"CONNECTSOFT_OBS_DRAIN_DELAY": str(DELAY), "CONNECTSOFT_OBS_ACCESS_LOG": "off"}
    ports = [stable_port(), stable_port()]
    instances = {port: start_server(server, app, port=port, env=env) for port in ports}
    load_balancer = LoadBalancer(ports)
    clients = Clients(load_balancer.port)
    try:
        with BackgroundTasks(load_balancer.run):
            wait_for(lambda: all(load_balancer.ready.values()), 30, "both instances ready")
            with BackgroundTasks(clients.run):
                wait_for(
                    lambda: clients.responses["200"] > 100, 10, f"requests {clients.responses} {load_balancer.failures}"
                )
                for number in range(2 * restarts):
                    port = ports[number % 2]
                    stop(instances[port], load_balancer)
                    instances[port].process.wait(30)
                    wait_for_load_balancer(load_balancer, port, False, instances[port])
                    instances[port] = start_server(server, app, port=port, env=env)
                    wait_for_load_balancer(load_balancer, port, True, instances[port])
                rate = sum(clients.responses.values()) / (time.monotonic() - clients.started)
    finally:
        for instance in instances.values():
            instance.stop(signal.SIGKILL)
    description = f"({rate:.0f}/s, {2 * restarts} restarts) {dict(clients.responses)} {dict(load_balancer.failures)}"
    return sum(clients.responses.values()), clients.failure_count, description


def wait_for_load_balancer(load_balancer: LoadBalancer, port: int, ready: bool, instance: Service) -> None:
    def has_state() -> bool:
        return load_balancer.ready[port] is ready and port not in load_balancer.leaving

    try:
        wait_for(has_state, 30, f"the load balancer sees instance {port} as {'ready' if ready else 'not ready'}")
    except AssertionError as timeout:
        timeout.add_note(f"{instance.process.poll()}\n{instance.output}")
        raise


def terminate(instance: Service, _: LoadBalancer) -> None:
    instance.process.send_signal(signal.SIGTERM)


def terminate_after_pre_stop(instance: Service, load_balancer: LoadBalancer) -> None:
    """Stop as Kubernetes does with `lifecycle.preStop.sleep`: remove the endpoint first, send SIGTERM later."""
    load_balancer.stop_routing_to(instance.port)
    time.sleep(1.0)  # the preStop sleep itself
    instance.process.send_signal(signal.SIGTERM)


def test_no_request_fails_during_a_rolling_restart() -> None:
    requests, failed, description = restart_instances("uvicorn", "lifecycle:app", 1, terminate)
    assert requests > 800
    assert failed == 0, description


def test_requests_fail_during_a_rolling_restart_without_the_middleware() -> None:
    requests, failed, description = restart_instances("uvicorn", "lifecycle:bare", 1, terminate)
    assert requests > 500
    assert failed > 10, description


@pytest.mark.full
@pytest.mark.parametrize("server", SERVERS_WITH_DELAYED_SIGTERM)
def test_no_request_fails_in_ten_rolling_restarts_of_each_server(server: str) -> None:
    requests, failed, description = restart_instances(server, "lifecycle:app", 10, terminate)
    print(f"{server}: with middleware {failed} of {requests} requests failed {description}")
    assert failed == 0, description


@pytest.mark.full
@pytest.mark.parametrize("server", [*SERVERS_WITH_DELAYED_SIGTERM, "hypercorn"])
def test_requests_fail_on_every_server_without_the_middleware(server: str) -> None:
    requests, failed, description = restart_instances(server, "lifecycle:bare", 10, terminate)
    print(f"{server}: without middleware {failed} of {requests} requests failed {description}")
    assert failed > 0, description


@pytest.mark.full
@pytest.mark.parametrize("server", ["hypercorn", "hypercorn-trio"])
def test_no_request_fails_on_hypercorn_with_a_pre_stop_hook(server: str) -> None:
    requests, failed, description = restart_instances(server, "lifecycle:app", 10, terminate_after_pre_stop)
    print(f"{server}: with preStop {failed} of {requests} requests failed {description}")
    assert failed == 0, description

"""Instances restarted in turn behind a load balancer: no request fails, where without us dozens do."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from support.asgi_server_commands import HOOKED, serve
from support.load_balancer import Background, Clients, Proxy, lasting_port
from support.process import Service, wait_for

DELAY = 2.5
"""Seconds served after SIGTERM: two of the proxy's periods and a little."""


def restarted(server: str, app: str, restarts: int, stop: Callable[[Service, Proxy], None]) -> tuple[int, int, str]:
    """Requests, failures and their reasons while two instances are restarted in turn so many times each."""
    env = {"CONNECTSOFT_OBS_DRAIN_DELAY": str(DELAY), "CONNECTSOFT_OBS_ACCESS_LOG": "off"}
    ports = [lasting_port(), lasting_port()]
    instances = {port: serve(server, app, port=port, env=env) for port in ports}
    proxy = Proxy(ports)
    clients = Clients(proxy.port)
    try:
        with Background(proxy.run):
            wait_for(lambda: all(proxy.ready.values()), 30, "both instances ready")
            with Background(clients.run):
                wait_for(lambda: clients.answers["200"] > 100, 10, f"requests {clients.answers} {proxy.reasons}")
                for number in range(2 * restarts):
                    port = ports[number % 2]
                    stop(instances[port], proxy)
                    instances[port].process.wait(30)
                    noticed(proxy, port, False, instances[port])
                    instances[port] = serve(server, app, port=port, env=env)
                    noticed(proxy, port, True, instances[port])
                rate = sum(clients.answers.values()) / (time.monotonic() - clients.began)
    finally:
        for instance in instances.values():
            instance.stop(signal.SIGKILL)
    said = f"({rate:.0f}/s, {2 * restarts} restarts) {dict(clients.answers)} {dict(proxy.reasons)}"
    return sum(clients.answers.values()), clients.failed, said


def noticed(proxy: Proxy, port: int, ready: bool, instance: Service) -> None:
    def seen() -> bool:
        return proxy.ready[port] is ready and port not in proxy.leaving

    try:
        wait_for(seen, 30, f"the proxy notices that {port} is {ready}")
    except AssertionError as late:
        late.add_note(f"{instance.process.poll()}\n{instance.said}")
        raise


def terminate(instance: Service, _: Proxy) -> None:
    instance.process.send_signal(signal.SIGTERM)


def after_pre_stop(instance: Service, proxy: Proxy) -> None:
    """What Kubernetes does with `lifecycle.preStop.sleep`: out of the endpoints first, SIGTERM later."""
    proxy.leaves(instance.port)
    time.sleep(1.0)  # the preStop sleep itself
    instance.process.send_signal(signal.SIGTERM)


def test_no_request_fails_while_two_instances_restart_in_turn() -> None:
    requests, failed, said = restarted("uvicorn", "lifecycle:app", 1, terminate)
    assert requests > 800
    assert failed == 0, said


def test_without_us_requests_fail_at_each_restart() -> None:
    requests, failed, said = restarted("uvicorn", "lifecycle:bare", 1, terminate)
    assert requests > 500
    assert failed > 10, said


@pytest.mark.full
@pytest.mark.parametrize("server", HOOKED)
def test_no_request_fails_on_any_server_in_ten_restarts_of_each_instance(server: str) -> None:
    requests, failed, said = restarted(server, "lifecycle:app", 10, terminate)
    print(f"{server}: with us {failed} of {requests} requests failed {said}")
    assert failed == 0, said


@pytest.mark.full
@pytest.mark.parametrize("server", [*HOOKED, "hypercorn"])
def test_without_us_requests_fail_on_every_server(server: str) -> None:
    requests, failed, said = restarted(server, "lifecycle:bare", 10, terminate)
    print(f"{server}: without us {failed} of {requests} requests failed {said}")
    assert failed > 0, said


@pytest.mark.full
@pytest.mark.parametrize("server", ["hypercorn", "hypercorn-trio"])
def test_on_hypercorn_the_pre_stop_line_of_the_docs_does_it(server: str) -> None:
    requests, failed, said = restarted(server, "lifecycle:app", 10, after_pre_stop)
    print(f"{server}: with preStop {failed} of {requests} requests failed {said}")
    assert failed == 0, said

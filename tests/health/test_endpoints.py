"""Health endpoints: JSON for the .NET Health Checks UI, plain text, single checks, and access to details."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.process import wait_for
from support.service_client import wait_for_status

import connectsoft_obs as obs
from connectsoft_obs.endpoints.health_response import health_page, redact_reason
from connectsoft_obs.redaction import DEFAULT_POLICY, REDACTED

TOKEN = "a-long-random-token"
SECRET = "hunter2"


@pytest.fixture
def service(run_service: Any) -> Any:
    """A service with a passing check and a failing check that is not critical, with a secret in its reason."""

    @obs.readiness_check("postgres", tags=["database"])
    async def postgres() -> None: ...

    @obs.readiness_check("recommendations", critical=False)
    def recommendations() -> None:
        raise ConnectionError(f"no route to https://shop:{SECRET}@reco/v1?api_key={SECRET}")

    with run_service(details_token=TOKEN) as (client, captured):
        wait_for(lambda: captured.logs and client.get("/health/ready").status_code == 200)
        yield client, captured


def get_with_token(client: Any, path: str) -> Any:
    return client.get(path, headers={"authorization": f"Bearer {TOKEN}"})


def test_body_has_the_format_of_the_health_checks_ui(service: Any) -> None:
    client, _ = service
    body = client.get("/health/ready").json()
    assert list(body) == ["status", "totalDuration", "entries", "ApplicationHealthState"]
    assert body["status"] == "Degraded"
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{7}", body["totalDuration"])
    entry = body["entries"]["postgres"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{7}", entry.pop("duration"))
    assert entry == {"status": "Healthy", "tags": ["database", "ready", "critical"], "data": {}}


def test_response_without_details_access_has_no_reasons(service: Any) -> None:
    client, captured = service
    for path in ("/health", "/health/ready", "/health/ready/recommendations", "/health/ready?verbose"):
        response = client.get(path)
        assert "no route" not in response.text
        assert SECRET not in response.text
    assert "[!]recommendations degraded: reason withheld" in client.get("/health/ready?verbose").text
    [line] = [line for line in captured.logs if "recommendations" in line["message"]]
    assert "no route to https://shop:" in line["connectsoft.obs.reason"]
    assert "Traceback" in line["exception.stacktrace"]


def test_token_shows_reasons_with_redacted_secrets(service: Any) -> None:
    client, _ = service
    body = get_with_token(client, "/health/ready").json()
    entry = body["entries"]["recommendations"]
    assert entry["description"] == "ConnectionError: no route to https://shop:REDACTED@reco/v1?api_key=REDACTED"
    assert entry["data"]["critical"] is False
    assert entry["data"]["failures"] >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["data"]["checked"])
    assert "degraded: ConnectionError: no route" in get_with_token(client, "/health/ready?verbose").text
    assert "no route" not in client.get("/health/ready", headers={"authorization": f"Bearer {TOKEN}x"}).text
    assert "no route" not in client.get("/health/ready", headers={"authorization": TOKEN}).text


def test_details_network_shows_reasons_except_through_a_proxy(run_service: Any) -> None:
    @obs.readiness_check("db", critical=False)
    def db() -> None:
        raise ConnectionError("no route")

    from starlette.testclient import TestClient

    with run_service(details_networks="10.1.0.0/16") as (client, _):
        wait_for_status(client, 200)
        allowed_client = TestClient(client.app, client=("10.1.2.3", 50000))
        wait_for(lambda: "no route" in allowed_client.get("/health/ready").text)
        assert "no route" not in allowed_client.get("/health/ready", headers={"x-forwarded-for": "1.2.3.4"}).text
        assert "no route" not in TestClient(client.app, client=("10.2.2.3", 50000)).get("/health/ready").text


def test_development_shows_reasons_to_all_clients(run_service: Any) -> None:
    @obs.readiness_check("db", critical=False)
    def db() -> None:
        raise ConnectionError("no route")

    with run_service(environment="dev") as (client, _):
        wait_for(lambda: "no route" in client.get("/health/ready").text)


def test_503_response_without_details_names_the_log_and_the_token(run_service: Any) -> None:
    @obs.readiness_check("db")
    def db() -> None:
        raise ConnectionError(f"no route to {SECRET}")

    with run_service(details_token=TOKEN) as (client, captured):
        wait_for(lambda: client.get("/health/ready/db").status_code == 503 and "db is unhealthy" in str(captured.logs))
        for path in ("/health", "/health/ready", "/health/ready/db"):
            response = client.get(path)
            assert response.status_code == 503
            (note,) = response.json()["notes"]
            assert "logger connectsoft_obs" in note
            assert "CONNECTSOFT_OBS_DETAILS_TOKEN" in note
            assert f"note: {note}\n" in client.get(f"{path}?verbose").text
            assert "no route" not in response.text
            assert SECRET not in response.text
            assert "notes" not in get_with_token(client, path).json()
            assert "note:" not in get_with_token(client, f"{path}?verbose").text
        assert "notes" not in client.get("/health/live").json()
        assert "notes" not in client.get("/health/ready?exclude=db").json()
    [line] = [line for line in captured.logs if "health check db" in line["message"]]
    assert line["logger"] == "connectsoft_obs"
    assert "no route" in line["connectsoft.obs.reason"]


def test_503_response_in_development_has_the_reasons_and_no_note(run_service: Any) -> None:
    @obs.readiness_check("db")
    def db() -> None:
        raise ConnectionError("no route")

    with run_service(environment="development") as (client, _):
        wait_for(lambda: "no route" in client.get("/health/ready").text)
        assert "notes" not in client.get("/health/ready").json()


def test_log_names_the_startup_tasks_that_readiness_waits_for(run_service: Any) -> None:
    release = threading.Event()
    obs.startup_task("warm-cache")(release.wait)
    try:
        with run_service() as (client, captured):
            assert "notes" in client.get("/health/ready").json()
            [line] = [line for line in captured.logs if line["message"] == "readiness waits for startup tasks"]
            assert (line["logger"], line["connectsoft.health.startup_task"]) == ("connectsoft_obs", "warm-cache")
    finally:
        release.set()


def test_verbose_response_is_plain_text(service: Any) -> None:
    client, _ = service
    for response in (
        client.get("/health/ready?verbose"),
        client.get("/health/ready?verbose=1"),
        client.get("/health/ready", headers={"accept": "text/plain"}),
    ):
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text == (
            "[+]postgres ok\n[!]recommendations degraded: reason withheld\nreadiness check passed: degraded\n"
        )


def test_exclude_ignores_checks_and_notes_unknown_names(run_service: Any) -> None:
    @obs.readiness_check("a")
    def a() -> None:
        raise ValueError("a")

    @obs.readiness_check("b")
    def b() -> None:
        raise ValueError("b")

    with run_service() as (client, _):
        wait_for(lambda: "lifecycle" not in client.get("/health/ready").text)
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/ready?exclude=a").status_code == 503
        for query in ("exclude=a&exclude=b", "exclude=a,b", "exclude=b,a,"):
            assert client.get(f"/health/ready?{query}").status_code == 200
        body = client.get("/health/ready?exclude=a&exclude=b&exclude=c%0d%0ax").json()
        assert (body["status"], body["ApplicationHealthState"]) == ("Healthy", "Healthy")
        assert body["entries"]["a"]["status"] == "Unhealthy"
        assert body["entries"]["a"]["data"] == {"excluded": True}
        assert body["notes"] == [r"some health checks cannot be excluded: no matches for 'c\r\nx'"]
        text = client.get("/health/ready?verbose&exclude=a&exclude=c").text
        assert "[+]a excluded: ok" in text
        assert "warn: some health checks cannot be excluded: no matches for 'c'" in text


def test_lifecycle_entry_cannot_be_excluded(run_service: Any) -> None:
    with run_service() as (client, captured):
        captured.telemetry.health.mark_unready("maintenance")
        assert client.get("/health/ready?exclude=lifecycle").status_code == 503


def test_each_check_has_a_path_below_its_probe(run_service: Any) -> None:
    @obs.readiness_check("passing")
    def passing() -> None: ...

    @obs.readiness_check("failing")
    def failing() -> None:
        raise ValueError

    @obs.liveness_check("loop one/two")
    def loop() -> None: ...

    with run_service() as (client, captured):
        wait_for(lambda: client.get("/health/ready/passing").status_code == 200)
        assert list(client.get("/health/ready/passing").json()["entries"]) == ["passing"]
        assert client.get("/health/ready/failing").status_code == 503
        assert client.get("/health/ready/passing?verbose").text == "[+]passing ok\nreadiness check passed: healthy\n"
        assert client.get("/health/live/loop one/two").status_code == 200
        for path in (unknown := ["/health/live/passing", "/health/ready/nothing"]):
            assert client.get(path).status_code == 404  # the response of the application
        assert client.get("/health/ready/").json().keys() == client.get("/health/ready").json().keys()
        assert client.post("/health/ready/passing").status_code == 404  # likewise
        wait_for(lambda: captured.logs)
    paths = [span.attributes["url.path"] for span in captured.spans if span.attributes]
    assert paths == [*unknown, "/health/ready/passing"]


def test_health_path_reports_all_probes_and_advisories(run_service: Any) -> None:
    @obs.readiness_check("db")
    def db() -> None: ...

    @obs.liveness_check("db")
    def consumer() -> None: ...

    @obs.startup_task("warm")
    def warm() -> None: ...

    with run_service() as (client, captured):
        body = wait_for_status(client, 200, "/health")
        assert set(body["entries"]) == {"db", "db-liveness", "warm"}
        captured.telemetry.health.add_advisory("export-traces", lambda: "exports fail")
        body = client.get("/health").json()
        assert body["status"] == "Degraded"
        assert body["entries"]["export-traces"]["status"] == "Degraded"
        assert client.get("/health/ready").json()["status"] == "Healthy"


def test_cached_response_is_invalidated_by_each_change(run_service: Any) -> None:
    failing = False

    @obs.readiness_check("db", interval=0.1, failure_threshold=1)
    def db() -> None:
        if failing:
            raise ConnectionError

    def ready_status() -> int:
        return int(client.get("/health/ready").status_code)

    with run_service() as (client, captured):
        health = captured.telemetry.health
        wait_for_status(client, 200)
        for _ in range(3):  # each change is visible in the next response
            assert ready_status() == 200
            obs.mark_unready("x")
            assert ready_status() == 503
            obs.mark_ready()
            assert ready_status() == 200
        problem = ""
        health.add_liveness_watch("consumer", lambda: problem)
        assert client.get("/health/live").status_code == 200
        problem = "has ended"
        assert client.get("/health/live").status_code == 503
        problem = ""
        assert client.get("/health/live").status_code == 200
        failing = True
        wait_for(
            lambda: [
                line
                for line in captured.logs
                if line["message"] == "readiness is unhealthy" and "db" in line["connectsoft.health.cause"]
            ]
        )
        assert ready_status() == 503
        failing = False
        wait_for_status(client, 200)

        @obs.readiness_check("late")
        def late() -> None: ...

        assert "late" in client.get("/health/ready").json()["entries"]
        wait_for_status(client, 200)
        health.drain("a test")
        assert ready_status() == 503


def test_cached_response_respects_details_access(
    service: Any,
) -> None:
    client, _ = service
    for _ in range(3):
        assert "no route" not in client.get("/health/ready").text
        assert "no route" in get_with_token(client, "/health/ready").text


def test_paths_are_configurable_and_can_be_disabled(run_service: Any) -> None:
    with run_service(readiness_path="/ready", liveness_path_alias="") as (client, _):
        assert client.get("/ready").status_code == 200
        assert client.get("/health/ready").status_code == 404
        assert client.get("/alive").status_code == 404
        assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("postgresql+asyncpg://u:p%40ss@db:5432/x refused", "postgresql+asyncpg://u:REDACTED@db:5432/x refused"),
        ("amqp://guest:guest@mq//", "amqp://guest:REDACTED@mq//"),
        ("password=hunter2 host=db", "password=REDACTED host=db"),
        ('PWD: "hun ter2"; x', 'PWD: "REDACTED"; x'),
        ("Endpoint=sb://a/;SharedAccessKeyName=r;SharedAccessKey=abc=", "Endpoint=sb://a/;SharedAccessKeyName=r;SharedAccessKey=REDACTED"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer REDACTED"),
        ("sent bearer eyJhbGciOi.x.y1", "sent bearer REDACTED"),
        ("timed out after 2 s", "timed out after 2 s"),
        ("x" * 600, "x" * 497 + "..."),
    ],
)  # fmt: skip
def test_shown_reason_contains_no_secret(reason: str, shown: str) -> None:
    assert redact_reason(reason, DEFAULT_POLICY) == shown


@given(st.text(max_size=300), st.text(alphabet=st.characters(codec="ascii", categories=["L", "N"]), min_size=8))
def test_password_in_a_url_is_redacted_in_any_text(prefix: str, password: str) -> None:
    assume(password != REDACTED)
    shown = DEFAULT_POLICY.redact_text(f"{prefix} redis://user:{password}@cache:6379/0")
    assert f":{password}@" not in shown


@example(b"&".join([b"exclude=a"] * 200))
@given(st.binary(max_size=200))
def test_any_query_is_answered(query: bytes) -> None:
    from connectsoft_obs.endpoints import EndpointRequest
    from connectsoft_obs.health import Phase, Probe, Report
    from connectsoft_obs.vocabulary import HealthState

    response = health_page(
        Report(Probe.READINESS, HealthState.HEALTHY, (), Phase.READY),
        EndpointRequest("GET", query),
        True,
        DEFAULT_POLICY,
    )
    assert response.status == 200

"""What must not be in a log is not there: by key and by pattern, nested, in exceptions, in every sink; and only that."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.settings import Settings, load_settings
from connectsoft_obs.redaction import RedactionPolicy, is_card_number
from connectsoft_obs.signals.logs.sanitizer import Sanitizer
from connectsoft_obs.testing import capture

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1234\nabcd\n-----END RSA PRIVATE KEY-----"


def cleaned(fields: dict[str, Any], **given: Any) -> tuple[dict[str, Any], float]:
    """Fields after cleaning, and how many values were redacted."""
    counted: list[float] = []
    result = dict(fields)
    Sanitizer(load_settings({}, **given), counted.append).fields(result)
    return result, sum(counted)


@pytest.mark.parametrize(
    "key",
    [
        "password", "PASSWORD", "db_password", "userPassword", "password_hash", "passwordOld", "new-password-confirm", "passwd", "pwd",
        "passphrase", "secret", "client_secret", "clientSecret", "secrets", "token", "access_token", "accessToken", "refreshtoken",
        "x-auth-token", "authorization", "Authorization", "http.request.header.authorization", "proxy-authorization", "cookie",
        "set-cookie", "Cookies", "api_key", "apiKey", "apikey", "X-API-Key", "Ocp-Apim-Subscription-Key", "AccountKey",
        "SharedAccessKey", "private_key", "connection_string", "ConnectionString", "connectionstring", "credentials", "jwt", "cvv",
        "card_number", "token2", "signing_key", "authorization_header",
    ],
)  # fmt: skip
def test_keys_that_name_a_secret(key: str) -> None:
    assert cleaned({key: "value"}) == ({key: "REDACTED"}, 1)


@pytest.mark.parametrize(
    "key",
    [
        "tokens", "token_count", "gen_ai.usage.input_tokens", "max_tokens", "token_type", "key", "cache_key", "author", "authority",
        "password_changed_at", "password_length", "passwordPolicy", "secret_name", "secretVersion", "credential_ref",
        "secretFingerprint", "private_key_id", "api_key_id", "monkey", "passenger", "compass", "session_id", "order_id", "path",
        "signature", "cookie_count", "http.route", "connectsoft.tenant.id", "connector", "connection", "secretary_id",
    ],
)  # fmt: skip
def test_keys_that_do_not(key: str) -> None:
    assert cleaned({key: "value"}) == ({key: "value"}, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer REDACTED"),
        ("sent bearer abc.def-123_456~x now", "sent bearer REDACTED now"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic REDACTED"),
        (f"jwt was {JWT}.", "jwt was REDACTED."),
        (f"before {PEM} after", "before REDACTED after"),
        ("cut -----BEGIN PRIVATE KEY-----\nMIIabc", "cut REDACTED"),
        ("postgresql://app:s3cret@db:5432/orders", "postgresql://app:REDACTED@db:5432/orders"),
        ("redis://:s3cret@cache:6379/0", "redis://:REDACTED@cache:6379/0"),
        ("Server=db;User Id=app;Password=p@ss w0rd;Timeout=3", "Server=db;User Id=app;Password=REDACTED;Timeout=3"),
        (
            "Endpoint=sb://x.net/;SharedAccessKeyName=root;SharedAccessKey=abc123=",
            "Endpoint=sb://x.net/;SharedAccessKeyName=root;SharedAccessKey=REDACTED",
        ),
        ("AccountName=a;AccountKey=Zm9vYmFy==;EndpointSuffix=x", "AccountName=a;AccountKey=REDACTED;EndpointSuffix=x"),
        ("https://a.net/b?sv=1&sig=abc%3D&se=2", "https://a.net/b?sv=1&sig=REDACTED&se=2"),
        ("GET /x?access_token=abc&page=2", "GET /x?access_token=REDACTED&page=2"),
        ('{"password": "hunter2", "user": "bob"}', '{"password": "REDACTED", "user": "bob"}'),
        ("{'client_secret': 'a b c', 'x': 1}", "{'client_secret': 'REDACTED', 'x': 1}"),
        ('{"token":"abcdefghijklmnop"}', '{"token":"REDACTED"}'),
        ("Cookie: session=abc; csrf=def\nHost: x", "Cookie: REDACTED\nHost: x"),
        ("set-cookie: id=1; Path=/", "set-cookie: REDACTED"),
        ("paid with 4111 1111 1111 1111 today", "paid with REDACTED today"),
        ("5555-5555-5555-4444", "REDACTED"),
        ("amex 378282246310005,", "amex REDACTED,"),
        ("login failed, password=hunter2", "login failed, password=REDACTED"),
        ("password = 'hunter two'", "password = 'REDACTED'"),
    ],
)  # fmt: skip
def test_texts_with_secrets(text: str, expected: str) -> None:
    result, found = cleaned({"text": text})
    assert (result["text"], found > 0) == (expected, True)
    again, more = cleaned({"text": expected})
    assert (again["text"], more) == (expected, 0), "what was redacted is not found again"


@pytest.mark.parametrize(
    "text",
    [
        "order placed", "2026-11-23T16:58:14.123456Z", "0d1c9a8e-7f2b-4a4e-9b7e-3f0f8b0e2d11", "4bf92f3577b34da6a3ce929d0e0e4736",
        "4111 1111 1111 1112", "order 4111111111111112", "1795508700123456789", "+49 30 123456789012", "GET /items/{id} 200",
        "https://example.org:8443/a/b?page=2&size=10", "basic authentication is not supported", "the bearer token is missing",
        "Unexpected token: ,", "took 12 ms: ok", "user=bob id=7", "key: value", "tokens=17 cached=3", "eyJ is how they start",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0", "bob@example.org",
        "amqp://broker:5672/vhost", "cookie monster", "192.168.100.200:65000", "secretary: Ms Smith",
    ],
)  # fmt: skip
def test_texts_without(text: str) -> None:
    assert cleaned({"text": text}) == ({"text": text}, 0)


def test_cards_are_told_by_prefix_length_and_check_digit() -> None:
    good = ["4111111111111111", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117",
            "3530111333300000", "30569309025904", "6212345678901232"]  # fmt: skip
    assert [number for number in good if not is_card_number(number)] == []
    assert not [number for number in good if is_card_number(str(int(number) + 1))]
    assert not is_card_number("1111111111111117")
    assert cleaned({"number": 4111111111111111}) == ({"number": "REDACTED"}, 1)
    assert cleaned({"number": 4111111111111112, "ns": 1795508700123456789, "n": -4111111111111111})[1] == 0


def test_nesting_lists_bytes_pairs_and_objects() -> None:
    class Request:
        def __repr__(self) -> str:
            return "<Request password='hunter2'>"

    given: dict[str, Any] = {
        "body": {"user": {"name": "bob", "password": "x", "roles": ["a", {"apiKey": "y"}]}},
        "headers": [(b"authorization", b"Bearer abc123456"), (b"accept", b"*/*"), ("x-api-key", "k")],
        "raw": b"token=abcdefgh",
        "request": Request(),
        "failure": ValueError("secret=abc"),
    }
    result, found = cleaned(given)
    assert result["body"] == {"user": {"name": "bob", "password": "REDACTED", "roles": ["a", {"apiKey": "REDACTED"}]}}
    assert result["headers"] == [["authorization", "REDACTED"], ["accept", "*/*"], ["x-api-key", "REDACTED"]]
    assert result["raw"] == "token=REDACTED"
    assert result["request"] == "<Request password='REDACTED'>"
    assert result["failure"] == "ValueError('secret=REDACTED')"
    assert found == 7
    assert given["body"]["user"]["password"] == "x", "what the application holds stays as it is"


def test_switches_and_absent_values_are_no_secrets() -> None:
    fields = {"password": None, "token": "", "secret": True, "cookie": False}
    assert cleaned(dict(fields)) == (fields, 0)


def test_more_words_patterns_and_addresses_by_setting() -> None:
    more = {"redact_keys": "iban,customer-name", "redact_pattern": r"EMP-\d+", "redact_emails": "true"}
    result, found = cleaned(
        {"iban": "DE02", "customerName": "Bob", "ibanless": "x", "text": "EMP-1 and EMP-22 wrote to bob.b@example.org"},
        **more,
    )
    assert result == {
        "iban": "REDACTED", "customerName": "REDACTED", "ibanless": "x", "text": "REDACTED and REDACTED wrote to REDACTED",
    }  # fmt: skip
    assert found >= 4


@pytest.mark.parametrize(("pattern", "why"), [("(", "not a regular expression"), ("x*", "matches an empty text")])
def test_a_pattern_that_cannot_work_is_refused_at_start_up(pattern: str, why: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=why):
        load_settings({"CONNECTSOFT_OBS_REDACT_PATTERN": pattern})


def test_every_place_of_a_line_is_cleaned_and_counted() -> None:
    with capture() as seen, obs.operation("import-file"):
        log = obs.get_logger("app", password="bound")
        obs.bind(api_key="bound too", customer="bob")
        try:
            raise ValueError("dsn postgresql://u:pw@h/d")
        except ValueError:
            log.exception("Bearer abc123456 %s", "token=xyz", nested=[{"secret": 1}])
    line = seen.log("Bearer REDACTED token=REDACTED")
    assert (line["password"], line["api_key"], line["nested"]) == ("REDACTED", "REDACTED", [{"secret": "REDACTED"}])
    assert line["exception.message"] == "dsn postgresql://u:REDACTED@h/d"
    assert "pw@h" not in line["exception.stacktrace"]
    assert seen.metric("connectsoft.log.redactions").value >= 6


def test_a_secret_in_a_users_agent_is_in_no_access_line_and_counted_in_each() -> None:
    with capture() as seen:
        app = obs.ObservabilityMiddleware(Starlette(), telemetry=seen.telemetry)
        client = TestClient(app, headers={"user-agent": "curl token=abcdefgh"})
        for _ in range(3):
            client.get("/")
    assert [line["user_agent.original"] for line in seen.logs if "user_agent.original" in line] == [
        "curl token=REDACTED"
    ] * 3
    assert seen.metric("connectsoft.log.redactions").value == 3


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=60), st.binary(max_size=40)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=12), st.integers()), inner, max_size=4)
    ),
    max_leaves=12,
)
hostile = st.text(alphabet="ab1-:=;@/\"' .\nBearpaswodtkn{}[]eyJ", max_size=400)


@settings(max_examples=400, deadline=None)
@given(fields=st.dictionaries(st.text(max_size=20), st.one_of(values, hostile), max_size=6))
def test_cleaning_never_raises_is_json_and_idempotent(fields: dict[str, Any]) -> None:
    once, _ = cleaned(fields)
    json.dumps(once, allow_nan=False).encode("ascii")
    twice, again = cleaned(once)
    assert (twice, again) == (once, 0)


@settings(max_examples=300, deadline=None)
@given(secret=st.text(alphabet="abcdefghijkXYZ0123456789", min_size=8, max_size=30), around=hostile)
def test_no_surroundings_hide_a_password_or_a_bearer_token(secret: str, around: str) -> None:
    marked = f"zq{secret}7"
    for text in (f"{around} password={marked}", f"{around}\nBearer {marked}", f"{around} amqp://u:{marked}@h"):
        result, _ = cleaned({"text": text})
        assert marked not in result["text"]


@pytest.mark.parametrize(
    "unit",
    ["password=", "eyJ", "a" * 50, "-----BEGIN PRIVATE KEY-----", "://a:", "Bearer ", "4111-", "cookie:", "'", "\\\"", "key = ", "@.",
     "conn_str", "pass" "word" " ", "1 ", "secret: '", "x=y;"],
)  # fmt: skip
def test_the_cost_of_a_hostile_text_grows_with_its_length_only(unit: str) -> None:
    redaction = RedactionPolicy(emails=True)

    def seconds(length: int) -> float:
        text = (unit * length)[:length]
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            redaction.redact_text(text)
            best = min(best, time.perf_counter() - began)
        return best

    seconds(1000)
    # Eight times the text may take eight times as long, and some; quadratic would be sixty-four times.
    assert seconds(8192) < 30 * max(seconds(1024), 1e-4)

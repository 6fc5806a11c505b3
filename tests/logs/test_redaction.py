"""Redaction in log records: by key and by content, nested, in messages and exceptions, without false positives."""

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
from connectsoft_obs.redaction import RedactionPolicy, is_card_number
from connectsoft_obs.settings import load_settings
from connectsoft_obs.signals.logs.sanitizer import Sanitizer
from connectsoft_obs.testing import capture

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1234\nabcd\n-----END RSA PRIVATE KEY-----"


def sanitize(fields: dict[str, Any], **arguments: Any) -> tuple[dict[str, Any], float]:
    """Sanitized fields, and the number of redacted values."""
    counts: list[float] = []
    result = dict(fields)
    Sanitizer(load_settings({}, **arguments), counts.append).sanitize_fields(result)
    return result, sum(counts)


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
def test_keys_of_secrets(key: str) -> None:
    assert sanitize({key: "value"}) == ({key: "REDACTED"}, 1)


@pytest.mark.parametrize(
    "key",
    [
        "tokens", "token_count", "gen_ai.usage.input_tokens", "max_tokens", "token_type", "key", "cache_key", "author", "authority",
        "password_changed_at", "password_length", "passwordPolicy", "secret_name", "secretVersion", "credential_ref",
        "secretFingerprint", "private_key_id", "api_key_id", "monkey", "passenger", "compass", "session_id", "order_id", "path",
        "signature", "cookie_count", "http.route", "connectsoft.tenant.id", "connector", "connection", "secretary_id",
    ],
)  # fmt: skip
def test_keys_of_other_values(key: str) -> None:
    assert sanitize({key: "value"}) == ({key: "value"}, 0)


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
        ('{"token": "abc", "auth":"x"}', '{"token": "REDACTED", "auth":"REDACTED"}'),
        ("private_key=abc cvv: 123 card_number='x'", "private_key=REDACTED cvv: REDACTED card_number='REDACTED'"),
        ("mysql://app:p@ss@db/orders", "mysql://app:REDACTED@db/orders"),
        ("amqp://u:a@one,amqp://u:b@two", "amqp://u:REDACTED@one,amqp://u:REDACTED@two"),
    ],
)  # fmt: skip
def test_texts_with_secrets(text: str, expected: str) -> None:
    result, number = sanitize({"text": text})
    assert (result["text"], number > 0) == (expected, True)
    assert sanitize({"text": expected}) == ({"text": expected}, 0), "redacted text does not match again"


@pytest.mark.parametrize(
    "text",
    [
        "order placed", "2026-11-23T16:58:14.123456Z", "0d1c9a8e-7f2b-4a4e-9b7e-3f0f8b0e2d11", "4bf92f3577b34da6a3ce929d0e0e4736",
        "4111 1111 1111 1112", "order 4111111111111112", "1795508700123456789", "+49 30 123456789012", "GET /items/{id} 200",
        "https://example.org:8443/a/b?page=2&size=10", "basic authentication is not supported", "the bearer token is missing",
        "Unexpected token: ,", "took 12 ms: ok", "user=bob id=7", "key: value", "tokens=17 cached=3", "eyJ is how they start",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0", "bob@example.org",
        "amqp://broker:5672/vhost", "cookie monster", "discard: 5 cards", "private: yes, postcard: no",
        "token: abc", "192.168.100.200:65000", "secretary: Ms Smith",
    ],
)  # fmt: skip
def test_texts_without_secrets(text: str) -> None:
    assert sanitize({"text": text}) == ({"text": text}, 0)


def test_card_numbers_have_a_known_prefix_length_and_check_digit() -> None:
    card_numbers = ["4111111111111111", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117",
            "3530111333300000", "30569309025904", "6212345678901232"]  # fmt: skip
    assert [number for number in card_numbers if not is_card_number(number)] == []
    assert not [number for number in card_numbers if is_card_number(str(int(number) + 1))]
    assert not is_card_number("1111111111111117")
    assert sanitize({"number": 4111111111111111}) == ({"number": "REDACTED"}, 1)
    assert sanitize({"number": 501234567896, "text": "501234567896"}) == ({"number": "REDACTED", "text": "REDACTED"}, 2)
    sanitizer = Sanitizer(load_settings({}), lambda _: None)
    for _ in range(2):  # the kind of a key is cached
        fields: dict[str, Any] = {"number": 501234567896}
        sanitizer.sanitize_fields(fields)
        assert fields == {"number": "REDACTED"}
    assert sanitize({"number": 4111111111111112, "ns": 1795508700123456789, "n": -4111111111111111})[1] == 0


def test_nested_values_bytes_header_pairs_and_objects_are_redacted() -> None:
    class Request:
        def __repr__(self) -> str:
            return "<Request password='hunter2'>"

    fields: dict[str, Any] = {
        "body": {"user": {"name": "bob", "password": "x", "roles": ["a", {"apiKey": "y"}]}},
        "headers": [(b"authorization", b"Bearer abc123456"), (b"accept", b"*/*"), ("x-api-key", "k")],
        "raw": b"token=abcdefgh",
        "request": Request(),
        "failure": ValueError("secret=abc"),
    }
    result, number = sanitize(fields)
    assert result["body"] == {"user": {"name": "bob", "password": "REDACTED", "roles": ["a", {"apiKey": "REDACTED"}]}}
    assert result["headers"] == [["authorization", "REDACTED"], ["accept", "*/*"], ["x-api-key", "REDACTED"]]
    assert result["raw"] == "token=REDACTED"
    assert result["request"] == "<Request password='REDACTED'>"
    assert result["failure"] == "ValueError('secret=REDACTED')"
    assert number == 7
    assert fields["body"]["user"]["password"] == "x", "the value of the application was modified"


def test_booleans_and_empty_values_are_not_redacted() -> None:
    fields = {"password": None, "token": "", "secret": True, "cookie": False}
    assert sanitize(dict(fields)) == (fields, 0)


def test_additional_keys_pattern_and_email_addresses_by_setting() -> None:
    arguments = {"redact_keys": "iban,customer-name", "redact_pattern": r"EMP-\d+", "redact_emails": "true"}
    result, number = sanitize(
        {"iban": "DE02", "customerName": "Bob", "ibanless": "x", "text": "EMP-1 and EMP-22 wrote to bob.b@example.org"},
        **arguments,
    )
    assert result == {
        "iban": "REDACTED", "customerName": "REDACTED", "ibanless": "x", "text": "REDACTED and REDACTED wrote to REDACTED",
    }  # fmt: skip
    assert number >= 4


@pytest.mark.parametrize(("pattern", "reason"), [("(", "not a regular expression"), ("x*", "matches the empty string")])
def test_invalid_pattern_is_rejected(pattern: str, reason: str) -> None:
    with pytest.raises(obs.ConfigurationError, match=reason):
        load_settings({"CONNECTSOFT_OBS_REDACT_PATTERN": pattern})


def test_all_parts_of_a_line_are_redacted_and_counted() -> None:
    with capture() as seen, obs.operation("import-file"):
        log = obs.get_logger("app", password="bound")
        obs.bind(api_key="also bound", customer="bob")
        try:
            raise ValueError("dsn postgresql://u:pw@h/d")
        except ValueError:
            log.exception("Bearer abc123456 %s", "token=xyz", nested=[{"secret": 1}])
    line = seen.log("Bearer REDACTED token=REDACTED")
    assert (line["password"], line["api_key"], line["nested"]) == ("REDACTED", "REDACTED", [{"secret": "REDACTED"}])
    assert line["exception.message"] == "dsn postgresql://u:REDACTED@h/d"
    assert "pw@h" not in line["exception.stacktrace"]
    assert seen.metric("connectsoft.log.redactions").value >= 6


def test_redacted_query_parameters_are_counted() -> None:
    assert sanitize({"url.query": "token=abcdefgh&page=2"}) == ({"url.query": "token=REDACTED&page=2"}, 1)


def test_secret_in_a_user_agent_is_redacted_on_each_access_line() -> None:
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
def test_sanitizing_gives_json_and_is_idempotent(fields: dict[str, Any]) -> None:
    sanitized, _ = sanitize(fields)
    json.dumps(sanitized, allow_nan=False).encode("ascii")
    assert sanitize(sanitized) == (sanitized, 0)


@settings(max_examples=300, deadline=None)
@given(secret=st.text(alphabet="abcdefghijkXYZ0123456789", min_size=8, max_size=30), prefix=hostile)
def test_secrets_are_redacted_in_any_surrounding_text(secret: str, prefix: str) -> None:
    unique_secret = f"zq{secret}7"
    for text in (
        f"{prefix} password={unique_secret}",
        f"{prefix}\nBearer {unique_secret}",
        f"{prefix} amqp://u:{unique_secret}@h",
    ):
        result, _ = sanitize({"text": text})
        assert unique_secret not in result["text"]


@pytest.mark.parametrize(
    "unit",
    ["password=", "eyJ", "a" * 50, "-----BEGIN PRIVATE KEY-----", "://a:", "Bearer ", "4111-", "cookie:", "'", "\\\"", "key = ", "@.",
     "conn_str", "pass" "word" " ", "1 ", "secret: '", "x=y;"],
)  # fmt: skip
def test_cost_is_proportional_to_the_length_of_hostile_text(unit: str) -> None:
    policy = RedactionPolicy(emails=True)

    def measure(length: int) -> float:
        text = (unit * length)[:length]
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            policy.redact_text(text)
            best = min(best, time.perf_counter() - start)
        return best

    measure(1000)
    # Eight times the length may take about eight times as long; quadratic time would be 64 times.
    assert measure(8192) < 30 * max(measure(1024), 1e-4)


def test_urls_and_statements_in_fields_are_redacted_by_their_names() -> None:
    fields = {
        "url.query": "code=s3cret&page=2&page_token=3",
        "url.full": "https://shop.example/?code=s3cret&page=2",
        "db.statement": "INSERT INTO users (name, password) VALUES ('bob', 's3cret')",
    }
    expected = {
        "url.query": "code=REDACTED&page=2&page_token=3",
        "url.full": "https://shop.example/?code=REDACTED&page=2",
        "db.statement": "INSERT INTO users (name, password) VALUES (?, ?)",
    }
    assert sanitize(fields, url_query_allowlist=("page_token",)) == (expected, 4)

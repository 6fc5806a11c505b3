"""Any value can be logged: the line is one JSON object of bounded size, and the log call never raises."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import json
import logging
import pathlib
import typing
import uuid
import weakref
from typing import Any

import attrs
import orjson
import pydantic
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from support.log_format_cases import LogRecorder

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

MAX_LINE, MAX_VALUE = 65536, 8192


class Colour(enum.Enum):
    RED = "red"


class Size(str, enum.Enum):  # noqa: UP042  the older form, whose str() differs
    LARGE = "large"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    password: str = "hunter2"
    hidden: int = dataclasses.field(default=0, repr=False)


class Hostile:
    """Every operation on it raises."""

    def __repr__(self) -> str:
        raise SystemError

    __str__ = __repr__

    def __len__(self) -> int:
        raise KeyError

    def __iter__(self) -> Any:
        raise OSError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


class Shrinking(dict[str, int]):
    """A mapping that is modified during iteration."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


def logged_line(**fields: Any) -> dict[str, Any]:
    recorder = LogRecorder("otel")
    recorder.log.info("message", **fields)
    written = recorder.output.getvalue()
    assert written.endswith("\n")
    assert written.count("\n") == 1
    line: dict[str, Any] = json.loads(written)
    return line


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.timedelta(seconds=90), "0:01:30"),
        (decimal.Decimal("1.50"), "1.50"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (ipaddress.ip_address("::1"), "::1"),
        (Colour.RED, "red"),
        (Size.LARGE, "large"),
        (Level.LOW, 1),
        (Point(1), {"x": 1, "password": "REDACTED"}),
        (collections.OrderedDict(a=1), {"a": 1}),
        ({1: {None: (True, 2.5)}}, {"1": {"None": [True, 2.5]}}),
        ({b"key": b"value"}, {"key": "value"}),
        (float("inf"), "Infinity"),
        ([float("nan"), -float("inf")], ["NaN", "-Infinity"]),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (10**5000, "<unprintable int>"),
        (ValueError("why"), "ValueError('why')"),
        (Hostile(), "<unprintable Hostile>"),
        ([Hostile()], ["<unprintable Hostile>"]),
        (Shrinking(), "{}"),
        ("\ud800half", "?half"),
        ("line\nbreak\u2028\x00", "line\nbreak\u2028\x00"),
        (range(3), "range(0, 3)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_type_of_value_has_one_representation(value: Any, expected: Any) -> None:
    assert logged_line(value=value)["value"] == expected


def test_cycles_depth_and_width_are_truncated() -> None:
    deep: Any = "bottom"
    for _ in range(50):
        deep = {"in": deep}
    line = logged_line(cycle=CYCLE, deep=deep, wide=list(range(100_000)), many={str(n): n for n in range(100_000)})
    assert "...[truncated]" in json.dumps(line["cycle"])
    assert "bottom" not in json.dumps(line["deep"])
    assert line["wide"][-1] == "...[truncated]"
    assert len(line["wide"]) <= 1001
    assert len(line["many"]) <= 1001


def test_nested_values_are_shown_to_the_maximum_depth() -> None:
    value: Any = ["bottom"]
    for _ in range(8):
        value = [value]
    assert "bottom" in json.dumps(logged_line(value=value))
    assert "bottom" not in json.dumps(logged_line(value=[value]))


def test_long_value_is_truncated() -> None:
    line = logged_line(short="x" * MAX_VALUE, long="y" * (MAX_VALUE + 1))
    assert line["short"] == "x" * MAX_VALUE
    assert line["long"] == "y" * MAX_VALUE + "...[truncated]"


def test_truncated_stack_trace_has_its_beginning_and_end() -> None:
    recorder = LogRecorder("otel")

    def recurse(number: int) -> None:
        if number == 0:
            raise ValueError("the innermost")
        exec(f"recurse({number} - 1)", {"recurse": recurse})  # noqa: S102  gives each frame a different line

    try:
        recurse(200)
    except ValueError:
        recorder.log.exception("deep")
    stack = json.loads(recorder.output.getvalue())["exception.stacktrace"]
    assert MAX_VALUE < len(stack) < MAX_VALUE + 50
    assert stack.index("...[truncated]") == pytest.approx(MAX_VALUE // 4, abs=10)
    assert stack.startswith("Traceback (most recent call last):")
    assert "...[truncated]" in stack
    assert stack.endswith("ValueError: the innermost\n")


@pytest.mark.parametrize("unit", ["x", "\x00", "€", "😀", '"', "\\"])
def test_line_length_is_bounded(unit: str) -> None:
    recorder = LogRecorder("otel")
    recorder.log.info("m" * 100_000, **{f"field{number}": unit * 9000 for number in range(40)})
    recorder.log.info("many fields", **{f"field{number}": number for number in range(20_000)})
    recorder.log.info("long keys", **{"k" * 70_000: 1, "q" * 70_000: 2})
    for written in recorder.output.getvalue().splitlines(keepends=True):
        assert len(written.encode()) <= MAX_LINE
        line = json.loads(written)
        assert list(line)[:4] == ["timestamp", "severity", "message", "logger"]
        assert "...[truncated]" in written


keys = st.one_of(
    st.text(max_size=30), st.sampled_from(["timestamp", "message", "trace_id", "exc_info", "event", "level", "", "a.b"])
)
any_value = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.datetimes(), st.uuids(), st.decimals(),
        st.builds(Hostile), st.builds(object), st.just(Point), st.complex_numbers(),
        st.text(alphabet=st.characters(categories=["Cs"]), max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.one_of(st.text(max_size=5), st.integers(), st.none()), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(event=any_value, args=st.lists(any_value, max_size=2), fields=st.dictionaries(keys, any_value, max_size=5))
def test_arbitrary_values_give_valid_lines(event: Any, args: list[Any], fields: dict[str, Any]) -> None:
    for profile in ("otel", "connectsoft", "ecs"):
        recorder = LogRecorder(profile)
        recorder.log.warning(event, *args, **{key: value for key, value in fields.items() if key != "event"})
        written, end = recorder.output.getvalue().split("\n")
        assert not end
        line = orjson.loads(written)
        assert set(line) >= {"message"}
        assert [name for name, labels in recorder.counter_calls if labels == ("warning",)] == [
            "connectsoft.log.records"
        ]
        assert recorder.counted_errors == []


@pytest.mark.parametrize("key", ["exc_info", "stack_info"])
def test_exc_info_without_a_truth_value_does_not_raise(key: str) -> None:
    recorder = LogRecorder("otel")
    recorder.log.info("logged", **{key: Hostile()})
    assert orjson.loads(recorder.output.getvalue())["message"] == "logged"


@pytest.mark.parametrize("secret", [Hostile(), [Hostile()]], ids=["itself", "in a list"])
def test_secret_whose_comparison_raises_is_redacted(secret: Any) -> None:
    recorder = LogRecorder("otel")
    recorder.log.info("logged", password=secret)
    assert orjson.loads(recorder.output.getvalue())["password"] == "REDACTED"
    assert recorder.counted_errors == []


def test_value_that_another_thread_modifies_is_logged() -> None:
    import threading

    shared: dict[str, int] = {}
    is_done = threading.Event()

    def modify() -> None:
        number = 0
        while not is_done.is_set():
            number += 1
            shared[str(number % 500)] = number
            shared.pop(str((number * 7) % 500), None)

    thread = threading.Thread(target=modify)
    thread.start()
    try:
        recorder = LogRecorder("otel")
        for _ in range(300):
            recorder.log.info("shared", shared=shared)
    finally:
        is_done.set()
        thread.join()
    assert len(recorder.output.getvalue().splitlines()) == 300
    assert recorder.counted_errors == []


class User(pydantic.BaseModel):
    id: int
    password: str


@attrs.define
class Account:
    id: int
    password: str


class Login(typing.NamedTuple):
    id: int
    password: str


class NoClass:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("working outside of application context")


def dead_proxy() -> Any:
    return weakref.proxy(Hostile())


@pytest.mark.parametrize("way", ["native", "structlog", "stdlib"])
@pytest.mark.parametrize("key", ["field", "password"])
@pytest.mark.parametrize("value_kind", ["no_class", "dead_proxy"])
def test_value_that_cannot_be_inspected_degrades_alone(way: str, key: str, value_kind: str) -> None:
    value = NoClass() if value_kind == "no_class" else dead_proxy()
    fields = {"before": 1, key: value, "nested": [value, {"x": value}], "after": 2}
    with capture() as seen:
        if way == "native":
            obs.get_logger("x").info("logged", **fields)
        elif way == "structlog":
            structlog.get_logger("x").info("logged", **fields)
        else:
            logging.getLogger("x").warning("logged", extra=fields)
    (line,) = [line for line in seen.logs if line["message"] == "logged"]
    assert (line["before"], line["after"]) == (1, 2)
    assert line[key] == "REDACTED" if key == "password" else isinstance(line[key], str)


@pytest.mark.parametrize("kind", [User, Account, Login, Point], ids=lambda kind: kind.__name__)
def test_secret_fields_of_structured_values_are_redacted(kind: Any) -> None:
    value = kind(1, password="hunter2") if kind is Point else kind(id=1, password="hunter2")
    for shown in (logged_line(value=value)["value"], logged_line(value=[value])["value"][0]):
        assert shown["password"] == "REDACTED"
        assert 1 in shown.values()


def test_unset_field_of_a_structured_value_is_left_out() -> None:
    @dataclasses.dataclass(slots=True)
    class Unset:
        id: int
        other: int = dataclasses.field(init=False)

    assert logged_line(value=Unset(1))["value"] == {"id": 1}

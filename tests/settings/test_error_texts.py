"""The text of each configuration error: what was given, why it is invalid, and what to do."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.settings import FIELDS, Settings, load_settings, variable, variable_warnings
from connectsoft_obs.settings.loader import read_variable

WRONG_TEXTS = (
    "wrong hunter2", "-1", "1e99", "1.5", "hunter2=b,c", "(hunter2", "ftp://hunter2", "http://u:hunter2@h:99999", "delta",
    "hunter2" * 50,
)  # fmt: skip
WRONG_ARGUMENTS: tuple[Any, ...] = (
    *WRONG_TEXTS, object(), 5, True, -1, math.nan, math.inf, 10**400, ["hunter2", 3], {"hunter2": 1}, b"hunter2", (None,),
)  # fmt: skip
WHY = re.compile(r"(it|its|the|a name|/metrics|entry \d+|'[^']*' is not) ?.*[^.!?]", re.DOTALL)
INSTEAD = "Set {} to "


def errors(name: str) -> list[tuple[str, ConfigurationError]]:
    """The source and the error of each wrong value of a setting, as a variable and as an argument."""
    result = []
    env = variable(name, FIELDS[name].metadata["env"])
    for text in WRONG_TEXTS if env.startswith("CONNECTSOFT_OBS_") else ():
        try:
            read_variable(name, text, env)
        except ConfigurationError as error:
            result.append((env, error))
    for value in WRONG_ARGUMENTS:
        try:
            load_settings({}, **{name: value})
        except ConfigurationError as error:
            result.append((name, error))
    return result


@pytest.mark.parametrize("name", list(FIELDS))
def test_error_has_value_reason_and_correction(name: str) -> None:
    field = FIELDS[name]
    for source, error in errors(name):
        print(error)
        if not error.instead.startswith("Set "):
            continue  # a combination of settings, whose texts are below
        assert error.given.startswith(f"{source}="), error
        assert WHY.fullmatch(error.why), error
        assert error.instead.startswith(INSTEAD.format(source)), error
        assert error.instead.endswith("."), error
        for text in (error.why, error.instead):
            assert " " not in field.metadata["help"] or field.metadata["help"] not in text, (
                "the description of the setting is not a part of the error"
            )
            assert not re.search(r"e\+|inf\b", text), f"a number that people do not write: {error}"
            assert not re.search(r"\bnone of\b|variable|argument|must be text", text), error
        assert len(str(error)) < 450, error
        assert "u:hunter2" not in str(error), "a password in a URL"
        if field.metadata["secret"]:
            assert "hunter2" not in str(error), error


def test_each_setting_that_is_checked_has_an_error() -> None:
    unchecked = {name for name in FIELDS if not errors(name)}
    assert unchecked == {"objectives"}, "its objects are checked when they are created"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("otlp_timeout", "a number of seconds above 0."),
        ("metric_interval", "a number of seconds above 0."),
        ("shutdown_timeout", "a number of seconds, at least 0."),
        ("CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT", "a number of seconds, at least 0."),
    ],
)
def test_error_names_the_unit_of_its_source(source: str, expected: str) -> None:
    is_variable = source.isupper()
    with pytest.raises(ConfigurationError) as raised:
        load_settings({source: "soon"} if is_variable else {}, **({} if is_variable else {source: "soon"}))
    assert raised.value.instead == f"Set {source} to {expected}"


def test_warning_about_a_standard_variable_has_value_reason_and_effect() -> None:
    for name, field in FIELDS.items():
        env = variable(name, field.metadata["env"])
        if not env or env.startswith("CONNECTSOFT_OBS_"):
            continue
        for text in WRONG_TEXTS:
            environ = {env: text}
            for warning in variable_warnings(environ, load_settings(environ)):
                print(warning)
                assert env in warning
                assert not re.search(r"e\+|\bnone of\b|must be text|in an argument", warning), warning
                assert len(warning) < 450, warning
                if field.metadata["secret"]:
                    assert "hunter2" not in warning


def test_quoted_value_is_short() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings({"CONNECTSOFT_OBS_ACCESS_LOG": "x" * 10_000})
    assert len(raised.value.given) < 150
    assert raised.value.given.endswith("...")


def test_signal_settings_have_an_error_too() -> None:
    with pytest.raises(ConfigurationError, match="it is not a mapping of mappings"):
        load_settings({}, otlp_overrides={"traces": 3})
    assert load_settings({}, otlp_overrides={"traces": {"otlp_timeout": 3.0}}).otlp_overrides
    assert Settings().otlp_overrides == {}

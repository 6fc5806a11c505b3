"""An access line that is filled in is, byte for byte, the line that would have been put together whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.log_format_cases import RESOURCE

from connectsoft_obs.signals.logs.formatter import LineFormatter
from connectsoft_obs.signals.logs.json_renderer import render
from connectsoft_obs.signals.logs.levels import ERROR, INFO
from connectsoft_obs.signals.logs.profiles import PROFILES

IDS = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "01")


def digits(ids: tuple[str, str, str]) -> tuple[bytes, bytes, bytes]:
    trace, span, flags = ids
    return trace.encode(), span.encode(), flags.encode()


text = st.text(st.characters(codec="utf-8"), max_size=30)


@pytest.mark.parametrize("profile", list(PROFILES))
@settings(max_examples=60, deadline=None)
@given(
    message=text | st.just("100 % of \ue000 {id} %s"),
    name=text,
    correlation=st.none() | text,
    agent=text,
    facts=st.none() | st.dictionaries(st.sampled_from(["order", "connectsoft.tenant.id", "message", "a%"]), text),
    level=st.sampled_from([INFO, ERROR]),
    flags=st.sampled_from(["00", "01", "03"]),
    duration=st.floats(0, 1e6),
    more=st.none() | st.fixed_dictionaries({"http.request.body.size": st.integers(0, 2**40)}),
)
def test_filled_in_and_put_together_are_the_same(
    profile: str, message: str, name: str, correlation: str | None, agent: str, facts: Any, level: int, flags: str,
    duration: float, more: Any,
) -> None:  # fmt: skip
    layout = LineFormatter(PROFILES[profile], RESOURCE)
    numbers = {"http.server.request.duration": duration, "http.response.body.size": 3}
    fixed = {"http.route": "/a/{b}", "connectsoft.outcome": "success"}
    form = layout.form(message, "connectsoft_obs.access", fixed, tuple(numbers))
    around = layout.fragment({"user_agent.original": agent})
    ids, about, now = (*IDS[:2], flags), (correlation, name), 1795508700_123456789
    filled = layout.format_event(form, now, level, digits(ids), about, tuple(numbers.values()), around, more, facts)
    if "\ue000" not in message:
        assert form.templates[level] is not None, "nothing was filled in"
    own = {**numbers, **(more or {}), **around.fields}
    assert filled == render(layout.format_record(form, now, level, ids, about, own, facts))

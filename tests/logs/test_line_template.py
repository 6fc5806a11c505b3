"""A line rendered from a byte template equals, byte for byte, the line that is built as a dictionary and rendered."""

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


def to_bytes(ids: tuple[str, str, str]) -> tuple[bytes, bytes, bytes]:
    trace_id, span_id, flags = ids
    return trace_id.encode(), span_id.encode(), flags.encode()


text = st.text(st.characters(codec="utf-8"), max_size=30)


@pytest.mark.parametrize("profile", list(PROFILES))
@settings(max_examples=60, deadline=None)
@given(
    message=text | st.just("100 % of \ue000 {id} %s"),
    name=text,
    correlation_id=st.none() | text,
    user_agent=text,
    bound=st.none() | st.dictionaries(st.sampled_from(["order", "connectsoft.tenant.id", "message", "a%"]), text),
    level=st.sampled_from([INFO, ERROR]),
    flags=st.sampled_from(["00", "01", "03"]),
    duration=st.floats(0, 1e6),
    extra_fields=st.none() | st.fixed_dictionaries({"http.request.body.size": st.integers(0, 2**40)}),
)
def test_byte_template_and_dictionary_give_the_same_line(
    profile: str, message: str, name: str, correlation_id: str | None, user_agent: str, bound: Any, level: int, flags: str,
    duration: float, extra_fields: Any,
) -> None:  # fmt: skip
    formatter = LineFormatter(PROFILES[profile], RESOURCE)
    numbers = {"connectsoft.http.server.request.duration": duration, "http.response.body.size": 3}
    attributes = {"http.route": "/a/{b}", "connectsoft.outcome": "success"}
    template = formatter.compile_line(message, "connectsoft_obs.access", attributes, tuple(numbers))
    shared_fields = formatter.encode_fields({"user_agent.original": user_agent})
    ids, operation_info, now = (*IDS[:2], flags), (correlation_id, name), 1795508700_123456789
    values = tuple(numbers.values())
    rendered = formatter.render_template(
        template, now, level, to_bytes(ids), operation_info, values, shared_fields, extra_fields, bound
    )
    if "\ue000" not in message:
        assert template.byte_templates[level] is not None, "the byte template was not used"
    fields = template.variable_fields(values, extra_fields, shared_fields)
    assert rendered == render(formatter.build_templated_line(template, now, level, ids, operation_info, fields, bound))

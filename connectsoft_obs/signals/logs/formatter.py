"""One log line as a dictionary: what is said, where, by whom, in the keys of a profile."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from connectsoft_obs.operations import Operation
from connectsoft_obs.signals.logs.json_renderer import MAX_LINE, render
from connectsoft_obs.signals.logs.levels import standard
from connectsoft_obs.signals.logs.line_template import (
    EncodedFields,
    HexIds,
    LineTemplate,
    OperationInfo,
    Template,
    TraceIds,
    ids_in,
)
from connectsoft_obs.signals.logs.profiles import Profile
from connectsoft_obs.signals.logs.timestamp import TimestampFormatter
from connectsoft_obs.vocabulary import CORRELATION_ID

_CAMEL: Final = re.compile(r"[._-]+(\w)")
_IN_BRACES: Final = re.compile(r"\{([\w.]+)\}")
_KEPT = 1000
_dumps: Final = orjson.dumps


class LineFormatter:
    """Makes lines of one profile for one process. Thread-safe.

    Args:
        profile: the table of keys.
        attributes: the resource.
        rendered: makes a line of what one says; JSON by default.
    """

    def __init__(
        self,
        profile: Profile,
        attributes: Mapping[str, Any],
        rendered: Callable[[dict[str, Any]], bytes] = render,
    ) -> None:
        self._rendered = rendered
        fixed = {key: attributes[name] for name, key in profile.resource.items() if name in attributes}
        trace = {profile.trace_id, profile.span_id, profile.trace_flags, profile.sampled}
        said = {profile.timestamp, profile.severity, profile.message}
        values = {**dict.fromkeys(profile.always), **fixed, **profile.constants}
        # A copy of a dictionary with its keys in place costs a third of putting them there.
        present = {*values, *said, *trace, profile.logger}
        self._whole = {key: values.get(key) for key in profile.head if key in present}
        self._known = {*values, *said}
        self._names: dict[str, str] = dict(profile.names)
        self._camel = profile.camel
        self._renamed = bool(profile.names) or profile.camel
        self._time, self._severity = profile.timestamp, profile.severity
        self._message, self._logger = profile.message, profile.logger
        self._trace, self._span = profile.trace_id, profile.span_id
        self._flags, self._sampled = profile.trace_flags, profile.sampled
        self._operation = profile.operation
        self._correlation = self.key(CORRELATION_ID)
        self._words = profile.words
        free = {self.key(name) for name in profile.names} | {self._correlation}
        self._reserved = frozenset({*profile.head, *profile.kept, profile.operation}) - free - {""}
        prefix = _IN_BRACES.sub(lambda match: str(attributes.get(match[1], "")), profile.trace_prefix)
        self._prefix = "" if "//" in prefix else prefix
        self._clock = TimestampFormatter()
        # Room in templates; the sampled flag and the operation's name are JSON, and so is the correlation id, which a
        # user may have bound.
        self._texts = tuple(filter(None, (self._time, self._trace, self._span, self._flags)))
        self._values = tuple(filter(None, (self._correlation, self._sampled, self._operation)))
        self._plain = bool(self._flags) and not (self._prefix or self._sampled or self._operation)

    def line(
        self,
        now: int,
        level: int,
        message: str,
        logger: str,
        ids: TraceIds | None,
        operation: Operation | None,
        attributes: dict[str, Any],
    ) -> dict[str, Any]:
        """A line with these attributes, which keep their order after the head; `now` is nanoseconds since 1970."""
        if ids is not None and logger:
            line = self._whole.copy()
            line[self._logger] = logger
            self._correlate(line, ids)
        else:
            line = self._partial(logger, ids)
        line[self._time] = self._clock.text(now).decode()
        line[self._severity] = self._words.get(level) or self._words[standard(level)]
        line[self._message] = message
        if self._operation and operation is not None:
            line[self._operation] = operation.name
        if self._renamed or not self._reserved.isdisjoint(attributes):
            attributes = self._free(attributes)
        line.update(attributes)
        return line

    def form(
        self, message: str, logger: str, attributes: dict[str, Any], numbers: tuple[str, ...] = ()
    ) -> LineTemplate:
        """What lines of one kind, said within a span and by a named logger, have in common."""
        line = self._whole.copy()
        line[self._message] = message
        line[self._logger] = logger
        line[self._correlation] = None
        line.update(self._free(attributes))
        line.update(dict.fromkeys(map(self.key, numbers)))
        return LineTemplate(message, logger, attributes, numbers, line)

    def fragment(self, fields: dict[str, Any]) -> EncodedFields:
        """Fields of ours, under names of ours, that lines of a form end with."""
        try:
            return EncodedFields(fields, _members({self.key(name): value for name, value in fields.items()}))
        except TypeError:  # half of a surrogate pair
            return EncodedFields(fields, None)

    def format_record(
        self,
        form: LineTemplate,
        now: int,
        level: int,
        ids: TraceIds,
        about: OperationInfo,
        own: dict[str, Any],
        facts: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """A line of a form with the attributes of ours that only this one has, and those that were bound."""
        correlation, title = about
        line = form.line.copy()
        line[self._time] = self._clock.text(now).decode()
        line[self._severity] = self._words[level]
        self._correlate(line, ids)
        line[self._correlation] = correlation or ids[0]
        if self._operation:
            line[self._operation] = title
        if self._renamed:
            own = {self.key(name): value for name, value in own.items()}
        line.update(own)
        if facts is not None:
            line.update(self._free(facts))
        return line

    def format_event(  # noqa: PLR0917  positional on purpose, as all that is called for each request
        self,
        form: LineTemplate,
        now: int,
        level: int,
        digits: HexIds,
        about: OperationInfo,
        numbers: tuple[float, ...],
        around: EncodedFields,
        more: dict[str, Any] | None,
        facts: dict[str, Any] | None,
    ) -> bytes:
        """The line of `filled` as it is written."""
        template = form.templates.get(level) or self._template(form, level)
        end = around.text
        try:
            if template is not None and (more is not None or facts is not None):
                end = self._end(form, around, more, facts)
            if template is not None and end is not None:
                if self._plain and about[0] is None and len(numbers) == 2:
                    # What nearly every access line is; tuples put together from others cost twice as much.
                    trace, span, flags = digits
                    first, second = numbers
                    correlation = b'"%b"' % trace
                    given = (self._clock.text(now), trace, span, flags, correlation, _dumps(first), _dumps(second), end)
                    content = template.line(given)
                else:
                    content = template.line((*self._room(now, digits, about), *map(_dumps, numbers), end))
                if len(content) <= MAX_LINE:
                    return content
        except TypeError:  # half of a surrogate pair
            pass
        own = form.own(numbers, more, around)
        return self._rendered(self.format_record(form, now, level, ids_in(digits), about, own, facts))

    def _end(
        self, form: LineTemplate, around: EncodedFields, more: dict[str, Any] | None, facts: dict[str, Any] | None
    ) -> bytes | None:
        """What a line ends with, None where it has to be put together whole."""
        end = around.text
        if end is not None and more is not None:
            end = _members({self.key(name): value for name, value in more.items()}) + end
        if end is not None and facts is not None:
            facts = self._free(facts)
            return end + _members(facts) if self._apart(form, around, more, facts) else None
        return end

    def _room(self, now: int, digits: HexIds, about: OperationInfo) -> list[bytes]:
        """What stands in the room of a template before its numbers, in profiles that differ from OpenTelemetry's."""
        trace, span, flags = digits
        correlation, name = about
        given = [self._clock.text(now), self._prefix.encode() + trace, span]
        if self._flags:
            given.append(flags)
        given.append(_dumps(correlation) if correlation else b'"%b"' % trace)
        if self._sampled:
            given.append(b"true" if int(flags, 16) & 1 else b"false")
        if self._operation:
            given.append(_dumps(name))
        return given

    def _apart(
        self, form: LineTemplate, around: EncodedFields, more: dict[str, Any] | None, facts: dict[str, Any]
    ) -> bool:
        """Whether what was bound stands under keys that the rest of a line does not have."""
        taken = {self.key(name) for name in (*around.fields, *(more or ()))}
        return form.line.keys().isdisjoint(facts) and taken.isdisjoint(facts)

    def key(self, name: str) -> str:
        """The profile's key for an attribute."""
        known = self._names.get(name)
        if known is None:
            known = _CAMEL.sub(lambda match: match[1].upper(), name) if self._camel else name
            if len(self._names) < _KEPT:
                self._names[name] = known
        return known

    def _template(self, form: LineTemplate, level: int) -> Template | None:
        if level in form.templates or self._rendered is not render:  # there is none
            return None
        line = form.line | {self._severity: self._words[level]}
        try:
            made = Template(line, self._texts, (*self._values, *map(self.key, form.numbers)))
        except (TypeError, ValueError):
            made = None
        form.templates[level] = made
        return made

    def _correlate(self, line: dict[str, Any], ids: TraceIds) -> None:
        line[self._trace] = self._prefix + ids[0] if self._prefix else ids[0]
        line[self._span] = ids[1]
        if self._flags:
            line[self._flags] = ids[2]
        if self._sampled:
            line[self._sampled] = bool(int(ids[2], 16) & 1)

    def _partial(self, logger: str, ids: TraceIds | None) -> dict[str, Any]:
        """The head of a line that is in no trace, or that no named logger wrote."""
        line = dict(self._whole)
        if logger:
            line[self._logger] = logger
        elif self._logger not in self._known:
            del line[self._logger]
        if ids is not None:
            self._correlate(line, ids)
            return line
        for key in (self._trace, self._span, self._flags, self._sampled):
            if key and key not in self._known:
                del line[key]
        return line

    def _free(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Attributes under the profile's keys; one whose key is taken gets another."""
        if self._renamed:
            attributes = {self.key(name): value for name, value in attributes.items()}
        if self._reserved.isdisjoint(attributes):
            return attributes
        return {f"attr.{key}" if key in self._reserved else key: value for key, value in attributes.items()}


def _members(fields: dict[str, Any]) -> bytes:
    """The members of an object, each after a comma."""
    return b"," + _dumps(fields)[1:-1] if fields else b""

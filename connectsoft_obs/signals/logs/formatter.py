"""Formats log records as lines: the keys of a profile, the resource, correlation ids and attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from connectsoft_obs.operations import Operation
from connectsoft_obs.signals.logs.json_renderer import MAX_LINE, render
from connectsoft_obs.signals.logs.levels import standard_level
from connectsoft_obs.signals.logs.log_line_template import (
    ByteTemplate,
    EncodedFields,
    HexIds,
    LogLineTemplate,
    OperationInfo,
    TraceIds,
    decode_ids,
)
from connectsoft_obs.signals.logs.profiles import Profile
from connectsoft_obs.signals.logs.timestamp import TimestampFormatter
from connectsoft_obs.vocabulary import CORRELATION_ID

_WORD_BOUNDARY: Final = re.compile(r"[._-]+(\w)")
_BRACED_NAME: Final = re.compile(r"\{([\w.]+)\}")
_MAX_CACHED_KEYS = 1000
_dumps: Final = orjson.dumps


class LineFormatter:
    """Builds lines of one profile. Thread-safe.

    Args:
        profile: the table of keys.
        attributes: the resource.
        render_line: renders a line as bytes; JSON by default.
    """

    def __init__(
        self,
        profile: Profile,
        attributes: Mapping[str, Any],
        render_line: Callable[[dict[str, Any]], bytes] = render,
    ) -> None:
        self._render_line = render_line
        resource = {key: attributes[name] for name, key in profile.resource.items() if name in attributes}
        trace_keys = {profile.trace_id, profile.span_id, profile.trace_flags, profile.sampled}
        required_keys = {profile.timestamp, profile.severity, profile.message}
        constants = {**dict.fromkeys(profile.always_present), **resource, **profile.constants}
        # Copying a dictionary that has its keys already costs a third of inserting them.
        present = {*constants, *required_keys, *trace_keys, profile.logger}
        self._blank_line = {key: constants.get(key) for key in profile.leading_keys if key in present}
        self._permanent_keys = {*constants, *required_keys}
        self._key_cache: dict[str, str] = dict(profile.renamed_attributes)
        self._camel_case = profile.camel_case
        self._renames_attributes = bool(profile.renamed_attributes) or profile.camel_case
        self._timestamp_key, self._severity_key = profile.timestamp, profile.severity
        self._message_key, self._logger_key = profile.message, profile.logger
        self._trace_id_key, self._span_id_key = profile.trace_id, profile.span_id
        self._flags_key, self._sampled_key = profile.trace_flags, profile.sampled
        self._operation_key = profile.operation
        self._correlation_key = self.key_for(CORRELATION_ID)
        self._severity_names = profile.severity_names
        unreserved = {self.key_for(name) for name in profile.renamed_attributes} | {self._correlation_key, ""}
        self._reserved = frozenset({*profile.leading_keys, *profile.reserved_keys, profile.operation}) - unreserved
        prefix = _BRACED_NAME.sub(lambda match: str(attributes.get(match[1], "")), profile.trace_prefix)
        self._trace_prefix = "" if "//" in prefix else prefix
        self._timestamps = TimestampFormatter()
        # Slots of templates. The sampled flag and the operation name are JSON, and so is the correlation id, which the
        # application may have bound.
        self._string_keys = tuple(
            filter(None, (self._timestamp_key, self._trace_id_key, self._span_id_key, self._flags_key))
        )
        self._json_keys = tuple(filter(None, (self._correlation_key, self._sampled_key, self._operation_key)))
        self._has_otel_slots = bool(self._flags_key) and not (
            self._trace_prefix or self._sampled_key or self._operation_key
        )

    def build_line(
        self,
        now: int,
        level: int,
        message: str,
        logger: str,
        ids: TraceIds | None,
        operation: Operation | None,
        attributes: dict[str, Any],
    ) -> dict[str, Any]:
        """Build a line: the leading keys of the profile, then the attributes in their order. `now` is nanoseconds since 1970."""
        if ids is not None and logger:
            line = self._blank_line.copy()
            line[self._logger_key] = logger
            self._set_ids(line, ids)
        else:
            line = self._partial_line(logger, ids)
        line[self._timestamp_key] = self._timestamps.format_ns(now).decode()
        line[self._severity_key] = self._severity_names.get(level) or self._severity_names[standard_level(level)]
        line[self._message_key] = message
        if self._operation_key and operation is not None:
            line[self._operation_key] = operation.name
        if self._renames_attributes or not self._reserved.isdisjoint(attributes):
            attributes = self._rename_attributes(attributes)
        line.update(attributes)
        return line

    def compile_line(
        self, message: str, logger: str, attributes: dict[str, Any], number_names: tuple[str, ...] = ()
    ) -> LogLineTemplate:
        """The template of lines that are written within a span and by a named logger."""
        line = self._blank_line.copy()
        line[self._message_key] = message
        line[self._logger_key] = logger
        line[self._correlation_key] = None
        line.update(self._rename_attributes(attributes))
        line.update(dict.fromkeys(map(self.key_for, number_names)))
        return LogLineTemplate(message, logger, attributes, number_names, line)

    def encode_fields(self, fields: dict[str, Any]) -> EncodedFields:
        """Encode attributes of this package's vocabulary that templated lines end with."""
        try:
            return EncodedFields(fields, _members({self.key_for(name): value for name, value in fields.items()}))
        except TypeError:  # a lone surrogate
            return EncodedFields(fields, None)

    def build_templated_line(
        self,
        template: LogLineTemplate,
        now: int,
        level: int,
        ids: TraceIds,
        operation_info: OperationInfo,
        fields: dict[str, Any],
        bound: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """A line of a template as a dictionary.

        It repeats `build_line()` because that would rename the fixed attributes again for each line, which the
        `connectsoft` profile would pay for each request with a tenant.

        Args:
            template: its fixed fields.
            now: nanoseconds since 1970.
            level: one of the five standard levels.
            ids: of the span.
            operation_info: correlation id and name of the operation.
            fields: attributes of this package's vocabulary that only this line has.
            bound: attributes that the application bound.
        """
        correlation_id, operation_name = operation_info
        line = template.base_line.copy()
        line[self._timestamp_key] = self._timestamps.format_ns(now).decode()
        line[self._severity_key] = self._severity_names[level]
        self._set_ids(line, ids)
        line[self._correlation_key] = correlation_id or ids[0]
        if self._operation_key:
            line[self._operation_key] = operation_name
        if self._renames_attributes:
            fields = {self.key_for(name): value for name, value in fields.items()}
        line.update(fields)
        if bound is not None:
            line.update(self._rename_attributes(bound))
        return line

    def render_template(  # noqa: PLR0917  positional because it is called for each request
        self,
        template: LogLineTemplate,
        now: int,
        level: int,
        hex_ids: HexIds,
        operation_info: OperationInfo,
        numbers: tuple[float, ...],
        shared_fields: EncodedFields,
        extra_fields: dict[str, Any] | None,
        bound: dict[str, Any] | None,
    ) -> bytes:
        """The rendered line of `LogPipeline.write_templated()`."""
        byte_template = template.byte_templates.get(level) or self._compile_bytes(template, level)
        members = shared_fields.encoded
        try:
            if byte_template is not None and (extra_fields is not None or bound is not None):
                members = self._encode_members(template, shared_fields, extra_fields, bound)
            if byte_template is not None and members is not None:
                if self._has_otel_slots and operation_info[0] is None and len(numbers) == 2:
                    # Nearly every access log line; tuples built by unpacking others cost twice as much.
                    trace_id, span_id, flags = hex_ids
                    first, second = numbers
                    timestamp = self._timestamps.format_ns(now)
                    correlation = b'"%b"' % trace_id
                    values = (timestamp, trace_id, span_id, flags, correlation, _dumps(first), _dumps(second), members)
                    content = byte_template.render(values)
                else:
                    slots = self._slot_values(now, hex_ids, operation_info)
                    content = byte_template.render((*slots, *map(_dumps, numbers), members))
                if len(content) <= MAX_LINE:
                    return content
        except TypeError:  # a lone surrogate
            pass
        fields = template.variable_fields(numbers, extra_fields, shared_fields)
        line = self.build_templated_line(template, now, level, decode_ids(hex_ids), operation_info, fields, bound)
        return self._render_line(line)

    def key_for(self, name: str) -> str:
        """The profile's key for an attribute."""
        key = self._key_cache.get(name)
        if key is None:
            key = _WORD_BOUNDARY.sub(lambda match: match[1].upper(), name) if self._camel_case else name
            if len(self._key_cache) < _MAX_CACHED_KEYS:
                self._key_cache[name] = key
        return key

    def _encode_members(
        self,
        template: LogLineTemplate,
        shared_fields: EncodedFields,
        extra_fields: dict[str, Any] | None,
        bound: dict[str, Any] | None,
    ) -> bytes | None:
        """The last members of a line; None if the line has to be built as a dictionary."""
        members = shared_fields.encoded
        if members is not None and extra_fields is not None:
            members = _members({self.key_for(name): value for name, value in extra_fields.items()}) + members
        if members is not None and bound is not None:
            bound = self._rename_attributes(bound)
            names = (*shared_fields.fields, *(extra_fields or ()))
            has_own_keys = template.base_line.keys().isdisjoint(bound) and bound.keys().isdisjoint(
                map(self.key_for, names)
            )
            return members + _members(bound) if has_own_keys else None
        return members

    def _slot_values(self, now: int, hex_ids: HexIds, operation_info: OperationInfo) -> list[bytes]:
        """The values of a template's slots before its numbers."""
        trace_id, span_id, flags = hex_ids
        correlation_id, operation_name = operation_info
        values = [self._timestamps.format_ns(now), self._trace_prefix.encode() + trace_id, span_id]
        if self._flags_key:
            values.append(flags)
        values.append(_dumps(correlation_id) if correlation_id else b'"%b"' % trace_id)
        if self._sampled_key:
            values.append(b"true" if int(flags, 16) & 1 else b"false")
        if self._operation_key:
            values.append(_dumps(operation_name))
        return values

    def _compile_bytes(self, template: LogLineTemplate, level: int) -> ByteTemplate | None:
        if level in template.byte_templates or self._render_line is not render:  # not possible, or not JSON
            return None
        line = template.base_line | {self._severity_key: self._severity_names[level]}
        byte_template = None
        try:
            number_keys = map(self.key_for, template.number_names)
            byte_template = ByteTemplate(line, self._string_keys, (*self._json_keys, *number_keys))
        except (TypeError, ValueError):
            pass
        template.byte_templates[level] = byte_template
        return byte_template

    def _set_ids(self, line: dict[str, Any], ids: TraceIds) -> None:
        line[self._trace_id_key] = self._trace_prefix + ids[0] if self._trace_prefix else ids[0]
        line[self._span_id_key] = ids[1]
        if self._flags_key:
            line[self._flags_key] = ids[2]
        if self._sampled_key:
            line[self._sampled_key] = bool(int(ids[2], 16) & 1)

    def _partial_line(self, logger: str, ids: TraceIds | None) -> dict[str, Any]:
        """The leading keys of a line without a trace or without a logger name."""
        line = dict(self._blank_line)
        if logger:
            line[self._logger_key] = logger
        elif self._logger_key not in self._permanent_keys:
            del line[self._logger_key]
        if ids is not None:
            self._set_ids(line, ids)
            return line
        for key in (self._trace_id_key, self._span_id_key, self._flags_key, self._sampled_key):
            if key and key not in self._permanent_keys:
                del line[key]
        return line

    def _rename_attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Attributes under the profile's keys; one whose key is reserved gets the prefix `attr.`."""
        if self._renames_attributes:
            attributes = {self.key_for(name): value for name, value in attributes.items()}
        if self._reserved.isdisjoint(attributes):
            return attributes
        return {f"attr.{key}" if key in self._reserved else key: value for key, value in attributes.items()}


def _members(fields: dict[str, Any]) -> bytes:
    """JSON members of an object, each preceded by a comma."""
    return b"," + _dumps(fields)[1:-1] if fields else b""

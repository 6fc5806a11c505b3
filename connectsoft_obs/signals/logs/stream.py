"""The one stream of a process: every line, whoever says it, goes through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import time_ns
from typing import Any

from opentelemetry.context import Context, get_current

from connectsoft_obs.context import OPERATION, SPAN, outside
from connectsoft_obs.ledger import Ledger
from connectsoft_obs.operations import Operation
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs.cleaning import Cleaning, printed
from connectsoft_obs.signals.logs.console import Console
from connectsoft_obs.signals.logs.exceptions import exception_fields
from connectsoft_obs.signals.logs.floods import Event, Floods
from connectsoft_obs.signals.logs.form import Digits, Form, Fragment, Ids, ids_in, ids_of
from connectsoft_obs.signals.logs.layout import Layout
from connectsoft_obs.signals.logs.levels import NAMES, WARNING, Levels, standard
from connectsoft_obs.signals.logs.output import Output
from connectsoft_obs.signals.logs.profiles import PROFILES
from connectsoft_obs.signals.logs.rendering import render
from connectsoft_obs.vocabulary import (
    CORRELATION_ID,
    EXCEPTION_TYPE,
    LOG_EVENT,
    LOG_RECORDS,
    LOG_REDACTIONS,
    LOG_SUPPRESSED,
    SCOPE,
    Metric,
    Signal,
)

Count = Callable[[float], None]
Counter = Callable[[Metric, tuple[str, ...]], Count]
"""Gives the function that adds to one series; asked once for each series."""

Export = Callable[[Context, int, int, str, str, "Ids | None", dict[str, Any]], None]
"""Takes context, nanoseconds, level, message, logger, ids and clean attributes under their OpenTelemetry names."""

_WORDS = {number: name for name, number in NAMES.items()}
_NONE: Mapping[str, Any] = {}


class LogStream:
    """Makes and writes lines. Thread-safe; no method raises into whoever logs.

    Args:
        settings: levels, profile, what is secret, what is too much.
        attributes: the resource.
        counter: counts lines by severity, and what was redacted.
        ledger: told what fails and what is held back.
        output: where lines go.
    """

    def __init__(
        self, settings: Settings, attributes: Mapping[str, Any], counter: Counter, ledger: Ledger, output: Output
    ) -> None:
        own = {name: NAMES[word] for name, word in settings.log_levels.items()}
        self.levels: Levels = Levels(NAMES[settings.log_level], own)
        self.output = output
        self._ledger = ledger
        self._counts = {level: counter(LOG_RECORDS, (word,)) for level, word in _WORDS.items()}
        self._cleaning = Cleaning(settings, counter(LOG_REDACTIONS, ()))
        self._floods = Floods(settings, self._summarise, output.later)
        self._limited = self._floods.lowest
        name = settings.log_profile or ("console" if output.terminal else "otel")
        self._render: Callable[[dict[str, Any]], bytes] = (
            Console(output.terminal).render if name == "console" else render
        )
        self._layout = Layout(PROFILES.get(name, PROFILES["otel"]), attributes, self._render)
        self._said = self._layout.said
        self._exports: tuple[Export, ...] = ()

    def export_to(self, export: Export) -> None:
        """Hand each line to `export` too."""
        self._exports = (*self._exports, export)

    def emit(
        self,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None = None,
        logger: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Write a line, if its level is high enough; `fields` are attributes, in their order."""
        self.emit_in(get_current(), level, message, fields, logger, error)

    def emit_in(
        self,
        context: Context,
        level: int,
        message: str,
        fields: Mapping[str, Any] | None = None,
        logger: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Write a line about an operation that is not, or no longer, current."""
        if level >= self.levels.of(logger):
            self.write(context, level, message, dict(fields) if fields else {}, logger, error)

    def write(
        self,
        context: Context,
        level: int,
        message: str,
        given: dict[str, Any],
        logger: str,
        error: BaseException | None,
    ) -> None:
        """Write a line whose level was looked at already; `given` is the stream's to change."""
        try:
            if level >= self._limited and not self._floods.passes(level, logger, message, given, error):
                self._ledger.dropped(Signal.LOGS, "rate_limited")
                return
            span = context.get(SPAN)
            ids = None if span is None else ids_of(span)
            operation = context.get(OPERATION)
            if not isinstance(operation, Operation):
                operation = None
                if facts := outside():
                    given = {**facts, **given}
            elif (correlation := operation.correlation_id or (ids and ids[0])) is not None:
                given = {CORRELATION_ID: correlation, **(operation.facts or _NONE), **given}
            elif operation.facts:
                given = {**operation.facts, **given}
            if error is not None:
                said = exception_fields(error)
                given = {f"attr.{key}" if key in said else key: value for key, value in given.items()} | said
            cleaning = self._cleaning
            if given:
                cleaning.fields(given)
            message = cleaning.text(message)
            (self._counts.get(level) or self._counts[standard(level)])(1)
            now = time_ns()
            line = self._layout.line(now, level, message, logger, ids, operation, given)
            self.output.write(self._render(line), level >= WARNING)
            for export in self._exports:
                export(context, now, level, message, logger, ids, given)
        except Exception as failure:  # noqa: BLE001  a log call never fails the caller
            self._ledger.error("logs", failure)
            self._last_resort(level, message, logger)

    def clean(self, facts: dict[str, Any]) -> dict[str, Any]:
        """What is bound, without secrets, under its attribute names."""
        return self._cleaning.facts(facts)

    def form(self, message: str, logger: str, attributes: dict[str, Any], numbers: tuple[str, ...] = ()) -> Form:
        """Lay out what lines of one kind have in common, for `fill`; `numbers` are names of numbers that each has."""
        clean = dict(attributes)
        self._cleaning.fields(clean)
        return self._layout.form(self._cleaning.text(message), logger, clean, numbers)

    def limits(self, level: int) -> bool:
        """Whether identical lines of a level are held back beyond a number, which `fill` does not do."""
        return level >= self._limited

    def fragment(self, fields: dict[str, Any]) -> Fragment:
        """Lay out fields that many lines end with, clean ones under names of ours, for `fill`."""
        return self._layout.fragment(fields)

    def fill(  # noqa: PLR0917  positional on purpose, as all that is called for each request
        self,
        form: Form,
        context: Context,
        digits: Digits,
        level: int,
        now: int,
        operation: Operation,
        numbers: tuple[float, ...],
        around: Fragment,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Write a line of a form about an operation within a span.

        Such a line is one an operation, and is never held back.

        Args:
            form: what all such lines say.
            context: the operation's.
            digits: of the operation's span.
            level: one of the five.
            now: when, in nanoseconds since 1970.
            operation: what it is about.
            numbers: those that the form names.
            around: what it has in common with lines of other forms.
            more: what only this line says, under names of ours, clean.
        """
        try:
            levels, logger = self.levels, form.logger
            if level < (levels.known.get(logger) or levels.of(logger)):
                return
            facts = operation.facts
            if facts is not None:
                facts = dict(facts)
                self._cleaning.fields(facts)
            self._counts[level](1)
            if self._exports:
                ids = ids_in(digits)
                own = {
                    CORRELATION_ID: operation.correlation_id or ids[0],
                    **form.attributes,
                    **form.own(numbers, more, around),
                }
                for export in self._exports:
                    export(context, now, level, form.message, form.logger, ids, {**own, **(facts or _NONE)})
            about = (operation.correlation_id, operation.name)
            line = partial(self._said, form, now, level, digits, about, numbers, around, more, facts)
            self.output.write(line, level >= WARNING)
        except Exception as failure:  # noqa: BLE001  ours; the request is over and stays as it was
            self._ledger.error("logs", failure)

    def repeated(self) -> None:
        """Count a server's line about an exception that was told already, in place of writing it."""
        self._ledger.dropped(Signal.LOGS, "already_reported")

    def flush(self, timeout: float) -> bool:
        """Tell what was held back and wait until all is written; True when nothing waits any more."""
        self._floods.settle(whole=True)
        return self.output.flush(timeout)

    def stop(self, timeout: float) -> bool:
        """As `flush`, and from now on write lines at once."""
        self._floods.settle(whole=True)
        return self.output.stop(timeout)

    def _summarise(self, event: Event, number: int) -> None:
        fields: dict[str, Any] = {LOG_EVENT: event.message, LOG_SUPPRESSED: number}
        if event.error:
            fields[EXCEPTION_TYPE] = event.error
        self.write(Context(), event.level, "identical lines were suppressed", fields, event.logger, None)

    def _last_resort(self, level: int, message: str, logger: str) -> None:
        """What was said, without what made saying it fail."""
        try:
            fields = {"message": printed(message, str)[:1000], "severity": _WORDS[standard(level)].upper()}
            self.output.write(render({**fields, "logger": logger or SCOPE}), True)
        except Exception as failure:  # noqa: BLE001  nothing is left to try
            self._ledger.error("logs", failure)

"""The official exporter of Azure Monitor, held to one attempt and overheard. Imported only where it is switched on.

In the place of its retry policy stands one that tries once, within the time there is, and notes what Application
Insights answered: the exporter itself gives back only whether it worked.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from contextlib import suppress
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import HTTPPolicy, SansIOHTTPPolicy
from azure.monitor.opentelemetry.exporter import (
    AzureMonitorLogExporter,
    AzureMonitorMetricExporter,
    AzureMonitorTraceExporter,
)

from connectsoft_obs.export.azure_monitor.destination import ApplicationInsightsDestination
from connectsoft_obs.export.http import retry_after
from connectsoft_obs.export.transport import ExportResult
from connectsoft_obs.vocabulary import Signal

_EXPORTERS: dict[Signal, Any] = {
    Signal.TRACES: AzureMonitorTraceExporter,
    Signal.LOGS: AzureMonitorLogExporter,
    Signal.METRICS: AzureMonitorMetricExporter,
}
_RETRYABLE = frozenset({401, 403, 408, 429, 500, 502, 503, 504})
"""What the service may take later: its own exporters keep such batches too."""

_OFF = ("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED")
"""Threads that report to the exporter's maker and ask it for settings; read when an exporter is made."""

for _name in ("azure.core.rest._requests_basic", "encodings.utf_8_sig", "netrc"):
    # Modules that a first request imports: here forks wait for it, there they could be met in the middle.
    with suppress(ImportError):
        importlib.import_module(_name)

_making = threading.Lock()
_overheard = threading.local()


class AzureExporter:
    """An exporter of one signal, for one thread."""

    def __init__(self, to: ApplicationInsightsDestination) -> None:
        self._attempt = SingleAttemptPolicy()
        with _making:
            before = {name: os.environ.get(name) for name in _OFF}
            os.environ.update(dict.fromkeys(_OFF, "true"))
            try:
                self._exporter = _EXPORTERS[to.signal](
                    connection_string=to.connection_string,
                    disable_offline_storage=True,
                    max_envelopes_per_second=0,  # what is above it would be lost, and nobody told
                    instrumentation_collection=True,  # no statistics about itself
                    retry_policy=self._attempt,
                    http_logging_policy=SansIOHTTPPolicy(),
                    **to.options,
                )
            finally:
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("azure."):
                logging.getLogger(name).addFilter(_is_news)

    def send(self, payload: Any, timeout: float) -> ExportResult:
        """Make envelopes and send them; raises for what cannot be one."""
        self._attempt.begin(timeout)
        try:
            result = self._exporter.export(payload)
        finally:
            _overheard.answered = False
        if self._attempt.answer is not None:
            return self._attempt.answer
        if result.name == "SUCCESS":  # nothing in it was worth an envelope
            return ExportResult(True)
        return ExportResult(False, reason="internal_error", too_large=True)

    def close(self) -> None:
        """Close the connections."""
        self._exporter.shutdown()
        self._exporter.client.close()


class SingleAttemptPolicy(HTTPPolicy[Any, Any]):
    """One attempt and its answer; what signs requests and what carries them comes after it."""

    def __init__(self) -> None:
        self.answer: ExportResult | None = None
        self._timeout = 0.0

    def begin(self, timeout: float) -> None:
        """Another batch, with so many seconds."""
        self.answer, self._timeout = None, timeout

    def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        """Let the request go on."""
        request.context.options.update(connection_timeout=self._timeout, read_timeout=self._timeout)
        _overheard.answered = True
        try:
            response = self.next.send(request)
        except AzureError as error:
            self.answer = ExportResult(False, retry=True, reason=_reason(error))
            raise
        self.answer = _answer(response.http_response)
        return response


def _answer(response: Any) -> ExportResult:
    status = response.status_code
    if status in (200, 206):
        try:
            return ExportResult(True, rejected=len(response.json().get("errors") or ()))
        except Exception:  # noqa: BLE001  a proxy's page, not the service
            return ExportResult(False, retry=True, reason="garbage")
    return ExportResult(
        False,
        retry=status in _RETRYABLE,
        reason=f"http_{status}",
        retry_after=retry_after(response.headers.get("Retry-After")),
        too_large=status == 413,
    )


def _reason(error: AzureError) -> str:
    if isinstance(error, ServiceRequestTimeoutError | ServiceResponseTimeoutError):
        return "timeout"
    if isinstance(error, ServiceResponseError):
        return "closed"
    if isinstance(error, ServiceRequestError):
        return "unreachable"
    return type(error).__name__  # a token that cannot be had


def _is_news(_: logging.LogRecord) -> bool:
    """Whether the exporter says something that its answer does not; the pipeline tells changes of state, once."""
    return not getattr(_overheard, "answered", False)

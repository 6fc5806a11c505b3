"""The official Azure Monitor exporter, limited to one attempt per batch. Imported only if it is enabled.

A custom policy replaces its retry policy: it makes one attempt within the timeout and records the response, because the
exporter itself returns only success or failure.
"""

from __future__ import annotations

import importlib
import logging
import os
import ssl
import threading
from contextlib import suppress
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
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
from connectsoft_obs.export.failures import redirect_target, refusal, result_of_error
from connectsoft_obs.export.http import retry_after
from connectsoft_obs.export.transport import ExportResult
from connectsoft_obs.vocabulary import Signal

_EXPORTERS: dict[Signal, Any] = {
    Signal.TRACES: AzureMonitorTraceExporter,
    Signal.LOGS: AzureMonitorLogExporter,
    Signal.METRICS: AzureMonitorMetricExporter,
}
_RETRYABLE = frozenset({401, 403, 408, 429, 500, 502, 503, 504})
"""Status codes that are retried; the official exporter keeps such batches too."""

_REFUSED_WITH_RETRY = frozenset({401, 403})
"""Those of them that indicate a permanent failure."""

_DISABLING_VARIABLES = ("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED")
"""Variables that disable usage statistics and remote configuration; read when an exporter is created."""

for _name in ("azure.core.rest._requests_basic", "encodings.utf_8_sig", "netrc"):
    # Modules that the first request imports: imported here, under the import guard, so that a fork cannot interrupt it.
    with suppress(ImportError):
        importlib.import_module(_name)

_creation_lock = threading.Lock()
_thread_state = threading.local()


class AzureExporter:
    """Exporter of one signal; used by one thread."""

    def __init__(self, destination: ApplicationInsightsDestination) -> None:
        self._attempt = SingleAttemptPolicy()
        with _creation_lock:
            before = {name: os.environ.get(name) for name in _DISABLING_VARIABLES}
            os.environ.update(dict.fromkeys(_DISABLING_VARIABLES, "true"))
            try:
                self._exporter = _EXPORTERS[destination.signal](
                    connection_string=destination.connection_string,
                    disable_offline_storage=True,
                    max_envelopes_per_second=0,  # items above a limit would be dropped without a count
                    instrumentation_collection=True,  # disables statistics about the exporter
                    retry_policy=self._attempt,
                    http_logging_policy=SansIOHTTPPolicy(),
                    **destination.options,
                )
            finally:
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("azure."):
                logging.getLogger(name).addFilter(_is_not_during_export)

    def send(self, payload: Any, timeout: float) -> ExportResult:
        """Convert and send one batch; raises if an item cannot be converted."""
        self._attempt.begin(timeout)
        try:
            result = self._exporter.export(payload)
        finally:
            _thread_state.exporting = False
        if self._attempt.result is not None:
            return self._attempt.result
        if result.name == "SUCCESS":  # no item needed to be sent
            return ExportResult(True)
        return ExportResult(False, reason="internal_error", too_large=True)

    def close(self) -> None:
        """Close the connections."""
        self._exporter.shutdown()
        self._exporter.client.close()


class SingleAttemptPolicy(HTTPPolicy[Any, Any]):
    """Pipeline policy that makes one attempt and records its result; authentication and transport follow it."""

    def __init__(self) -> None:
        self.result: ExportResult | None = None
        self._timeout = 0.0

    def begin(self, timeout: float) -> None:
        """Begin a batch with a timeout in seconds."""
        self.result, self._timeout = None, timeout

    def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        """Send the request to the next policy."""
        request.context.options.update(connection_timeout=self._timeout, read_timeout=self._timeout)
        _thread_state.exporting = True
        try:
            response = self.next.send(request)
        except AzureError as error:
            self.result = _result_of_error(error)
            raise
        except OSError as error:  # raised by requests if the file in REQUESTS_CA_BUNDLE does not exist
            is_missing_file = "CA certificate bundle" in str(error)
            self.result = refusal("certificate_file", str(error)) if is_missing_file else result_of_error(error)
            raise
        self.result = _result_of_response(response.http_response)
        return response


def _result_of_response(response: Any) -> ExportResult:
    status = response.status_code
    if status in (200, 206):
        try:
            errors = response.json().get("errors") or ()
            return ExportResult(True, rejected=len(errors), detail=str(errors[0].get("message", "")) if errors else "")
        except Exception:  # noqa: BLE001  the page of a proxy, not of the service
            return ExportResult(False, retry=True, reason="garbage")
    return ExportResult(
        False,
        retry=status in _RETRYABLE,
        reason=f"http_{status}",
        retry_after=retry_after(response.headers.get("Retry-After")),
        too_large=status == 413,
        refused=status in _REFUSED_WITH_RETRY or status not in _RETRYABLE,
        detail=redirect_target(response.headers.get("Location")) if 300 <= status < 400 else "",
    )


def _result_of_error(error: AzureError) -> ExportResult:
    tls_error = _find_cause(error, ssl.SSLError)
    if tls_error is not None and (result := result_of_error(tls_error)).refused:
        return result
    return ExportResult(False, retry=True, reason=_reason(error), refused=isinstance(error, ClientAuthenticationError))


def _find_cause(error: BaseException, kind: type[Exception]) -> Exception | None:
    """The first exception of a class among the causes and arguments of an exception; None if there is none.

    requests and urllib3 pass the original exception as an argument of their own.
    """
    pending, visited = [error], set()
    while pending:
        current = pending.pop()
        if isinstance(current, kind):
            return current
        if id(current) not in visited:
            visited.add(id(current))
            related = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
            pending += [cause for cause in related if isinstance(cause, BaseException)]
    return None


def _reason(error: AzureError) -> str:
    if isinstance(error, ServiceRequestTimeoutError | ServiceResponseTimeoutError):
        return "timeout"
    if isinstance(error, ServiceResponseError):
        return "closed"
    if isinstance(error, ServiceRequestError):
        return "unreachable"
    return type(error).__name__  # for example a token that cannot be obtained


def _is_not_during_export(_: logging.LogRecord) -> bool:
    """Log filter: suppresses records of the exporter during an export, whose result the batch processor logs."""
    return not getattr(_thread_state, "exporting", False)

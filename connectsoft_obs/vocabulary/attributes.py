"""Attribute names of spans, log lines and metric labels."""

from __future__ import annotations

from typing import Final

HTTP_METHOD: Final = "http.request.method"
HTTP_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_STATUS: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
HTTP_REQUEST_HEADER: Final = "http.request.header."
HTTP_RESPONSE_HEADER: Final = "http.response.header."
HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
URL_QUERY: Final = "url.query"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
PEER_ADDRESS: Final = "network.peer.address"
PEER_PORT: Final = "network.peer.port"
PROTOCOL_NAME: Final = "network.protocol.name"
PROTOCOL_VERSION: Final = "network.protocol.version"
USER_AGENT: Final = "user_agent.original"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EVENT_NAME: Final = "otel.event.name"
CODE_FILE: Final = "code.file.path"
CODE_LINE: Final = "code.line.number"
CODE_STACK: Final = "code.stacktrace"
THREAD_NAME: Final = "thread.name"
ASYNCIO_SOURCE: Final = "connectsoft.asyncio.source"
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_MESSAGE_ID: Final = "messaging.message.id"
MESSAGING_BATCH_COUNT: Final = "messaging.batch.message_count"
MESSAGING_DELIVERY_COUNT: Final = "messaging.servicebus.message.delivery_count"
SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
ENVIRONMENT: Final = "deployment.environment.name"
REVISION: Final = "connectsoft.revision"
OUTCOME: Final = "connectsoft.outcome"
STREAM_KIND: Final = "connectsoft.http.stream.kind"
STREAM_SENT: Final = "connectsoft.http.stream.messages_sent"
STREAM_RECEIVED: Final = "connectsoft.http.stream.messages_received"
TIME_TO_FIRST_BYTE: Final = "connectsoft.http.time_to_first_byte"
JOB_NAME: Final = "connectsoft.job.name"
JOB_TRIGGER: Final = "connectsoft.job.trigger"
JOB_ATTEMPT: Final = "connectsoft.job.attempt"
JOB_RUN_ID: Final = "connectsoft.job.run.id"
JOB_SCHEDULE: Final = "connectsoft.job.schedule"
DELIVERY_COUNT: Final = "connectsoft.message.delivery_count"
MESSAGE_AGE: Final = "connectsoft.message.age"
SKIP_REASON: Final = "connectsoft.skip.reason"
CHECK_NAME: Final = "connectsoft.health.check.name"
HEALTH_KIND: Final = "connectsoft.health.kind"
HEALTH_STATE: Final = "connectsoft.health.state"
OBS_SIGNAL: Final = "connectsoft.obs.signal"
OBS_REASON: Final = "connectsoft.obs.reason"
OBS_WHERE: Final = "connectsoft.obs.where"
OBS_METRIC: Final = "connectsoft.obs.metric"
OBS_OUTCOME: Final = "connectsoft.obs.outcome"
OBS_EXPORTER_STATE: Final = "connectsoft.obs.exporter.state"
LOG_SEVERITY: Final = "connectsoft.log.severity"
GC_GENERATION: Final = "cpython.gc.generation"
LOG_EVENT: Final = "connectsoft.log.event"
LOG_SUPPRESSED: Final = "connectsoft.log.suppressed"
SLO_NAME: Final = "connectsoft.slo.name"
SLO_OUTCOME: Final = "connectsoft.slo.outcome"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  an attribute name, not a token
CORRELATION_ID: Final = "connectsoft.correlation.id"
TENANT_ID: Final = "connectsoft.tenant.id"
CAUSATION_ID: Final = "connectsoft.causation.id"
LIFECYCLE_ID: Final = "connectsoft.lifecycle.id"
EVENT_REQUEST_EXCEPTION: Final = "http.server.request.exception"
EVENT_JOB_EXCEPTION: Final = "connectsoft.job.exception"
EVENT_PROCESS_EXCEPTION: Final = "messaging.process.exception"

DIMENSIONS: Final = {
    f"{dimension}_id": f"connectsoft.{dimension}.id"
    for dimension in (
        "tenant", "correlation", "execution", "project", "module", "agent", "skill", "artifact", "workflow",
    )
}  # fmt: skip
"""Keyword of `obs.bind()` -> attribute of spans and log lines. Never metric labels."""

INTEGER_LABELS: Final = frozenset({HTTP_STATUS})
"""Labels that are integer attributes in OTLP; all others are strings."""

UNBOUNDED_LABELS: Final = frozenset({HTTP_ROUTE, MESSAGING_DESTINATION, GEN_AI_REQUEST_MODEL})
"""Labels without a fixed set of values. At the cardinality limit only these are emptied, so that SLOs do not under-count."""

_OWN_NAMESPACE: Final = "connectsoft."

OWN_LOG_ATTRIBUTES: Final = {
    "host": SERVER_ADDRESS,
    "port": SERVER_PORT,
    "stack": CODE_STACK,
    "previous": "connectsoft.health.previous_state",
    "cause": "connectsoft.health.cause",
    "phase": "connectsoft.health.phase",
    "task": "connectsoft.health.startup_task",
    "line": "connectsoft.event_loop.line",
    "running": "connectsoft.worker.active_runs",
    "scheduled": "connectsoft.job.scheduled_time",
} | {
    key: f"connectsoft.obs.{key}"
    for key in (
        "action", "budget", "by", "declared", "detail", "directory", "drain_delay", "endpoint", "environment",
        "error", "exports", "instead", "instrumented", "level", "limit", "metric", "name", "operation",
        "path", "reason", "rejected", "replaced", "reported", "seconds", "service", "setting", "signal",
        "timeout", "tried", "waiting", "where",
    )
}  # fmt: skip
"""Short name of a field of this package's own log lines -> its attribute."""


def duration_attribute(metric_name: str) -> str:
    """Attribute of log lines with the duration that a metric records; OpenTelemetry has no attribute for it."""
    return metric_name if metric_name.startswith(_OWN_NAMESPACE) else _OWN_NAMESPACE + metric_name


def own_log_attribute(key: str) -> str:
    """Attribute name for a field of this package's own log lines; a name with a namespace is unchanged."""
    return key if "." in key else OWN_LOG_ATTRIBUTES.get(key) or f"connectsoft.obs.{key}"

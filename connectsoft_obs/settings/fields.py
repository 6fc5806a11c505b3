"""All settings: field, environment variable, default and description."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from connectsoft_obs.redaction import DEFAULT_POLICY, REDACTED, RedactionPolicy, safe_str
from connectsoft_obs.settings import parsers
from connectsoft_obs.settings.parser_descriptions import Reader, shorten
from connectsoft_obs.settings.parsers import Network

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

PREFIX = "CONNECTSOFT_OBS_"
_USER_INFO = re.compile(r"^(['\"]?(?:\w+://)?).*@", re.DOTALL)
"""User name and password of a URL, also if its password contains characters that a URL must not contain."""


def _setting(default: Any, reader: Reader, help_: str, *, env: str | None = None, secret: bool = False) -> Any:
    """A field of `Settings`.

    `env` names the standard variable where one exists, else the variable is CONNECTSOFT_OBS_<FIELD>. The value of a
    `secret` field is never quoted in errors or logs.
    """
    metadata = {"reader": reader, "env": env, "help": help_, "secret": secret}
    factory: Callable[[], Any] | None = default if callable(default) else None
    return field(default_factory=factory, metadata=metadata) if factory else field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """Settings of one process. Environment variables override arguments, arguments override defaults.

    Durations are seconds. `configure()` and `ObservabilityMiddleware` accept every field as a keyword argument.
    Instances are immutable and safe to share between threads. Variables follow the OpenTelemetry specification
    where it defines one (environment variables of the SDK and of the OTLP exporter).
    """

    # Resource
    service: str | None = _setting(
        None,
        parsers.text,
        "name of the service; by default that of the platform, or the title of the FastAPI application",
        env="OTEL_SERVICE_NAME",
    )
    namespace: str | None = _setting(None, parsers.text, "namespace of the service")
    version: str | None = _setting(None, parsers.text, "version of the service")
    environment: str | None = _setting(
        None,
        parsers.text,
        "deployment environment: development, test, staging, production or another name; by default production, and "
        "development in a local terminal",
    )
    resource_attributes: Mapping[str, str] = _setting(
        dict, parsers.key_values, "additional resource attributes", env="OTEL_RESOURCE_ATTRIBUTES"
    )

    # Export
    disabled: bool = _setting(
        False, parsers.otel_boolean, "disables spans, metrics, access log and exports", env="OTEL_SDK_DISABLED"
    )
    traces_exporter: tuple[str, ...] | None = _setting(
        None,
        parsers.any_of("otlp", "azuremonitor", "console", "none"),
        "where spans are sent; console writes to stderr, on a terminal as trees",
        env="OTEL_TRACES_EXPORTER",
    )
    metrics_exporter: tuple[str, ...] | None = _setting(
        None,
        parsers.any_of("otlp", "azuremonitor", "prometheus", "none"),
        "where metrics are sent, in addition to /metrics",
        env="OTEL_METRICS_EXPORTER",
    )
    logs_exporter: tuple[str, ...] | None = _setting(
        None,
        parsers.any_of("otlp", "azuremonitor", "console", "none"),
        "where log records are sent, in addition to stdout",
        env="OTEL_LOGS_EXPORTER",
    )
    otlp_endpoint: str | None = _setting(
        None, parsers.url, "OTLP endpoint of the collector; nothing is sent if unset", env="OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    otlp_protocol: str = _setting(
        "http/protobuf",
        parsers.one_of("http/protobuf", "grpc"),
        "OTLP transport protocol",
        env="OTEL_EXPORTER_OTLP_PROTOCOL",
    )
    otlp_headers: Mapping[str, str] = _setting(
        dict, parsers.headers, "headers of OTLP requests", env="OTEL_EXPORTER_OTLP_HEADERS", secret=True
    )
    otlp_timeout: float = _setting(
        10.0, parsers.milliseconds, "time limit of one export, retries included", env="OTEL_EXPORTER_OTLP_TIMEOUT"
    )
    otlp_compression: str = _setting(
        "none", parsers.one_of("none", "gzip"), "compression of OTLP requests", env="OTEL_EXPORTER_OTLP_COMPRESSION"
    )
    otlp_certificate: str | None = _setting(
        None,
        parsers.text,
        "CA bundle that verifies the certificate of the collector",
        env="OTEL_EXPORTER_OTLP_CERTIFICATE",
    )
    otlp_client_key: str | None = _setting(
        None, parsers.text, "private key for mutual TLS", env="OTEL_EXPORTER_OTLP_CLIENT_KEY"
    )
    otlp_client_certificate: str | None = _setting(
        None, parsers.text, "certificate for mutual TLS", env="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
    )
    otlp_insecure: bool = _setting(
        False,
        parsers.otel_boolean,
        "disables TLS for a gRPC endpoint without a scheme",
        env="OTEL_EXPORTER_OTLP_INSECURE",
    )
    otlp_overrides: Mapping[str, Mapping[str, Any]] = _setting(
        dict,
        parsers.signal_mappings,
        "OTLP settings per signal, from OTEL_EXPORTER_OTLP_<SIGNAL>_* variables",
        env="",
        secret=True,
    )
    azure_connection_string: str | None = _setting(
        None,
        parsers.text,
        "Application Insights resource that receives all signals; needs the extra [azure]",
        env="APPLICATIONINSIGHTS_CONNECTION_STRING",
        secret=True,
    )
    span_max_queue_size: int = _setting(
        8192, parsers.integer(low=1), "maximum number of spans in the export queue", env="OTEL_BSP_MAX_QUEUE_SIZE"
    )
    span_max_export_batch_size: int = _setting(
        512, parsers.integer(low=1), "maximum number of spans in one export", env="OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    )
    span_schedule_delay: float = _setting(
        5.0, parsers.milliseconds, "maximum time that a span waits in the export queue", env="OTEL_BSP_SCHEDULE_DELAY"
    )
    log_max_queue_size: int = _setting(
        8192,
        parsers.integer(low=1),
        "maximum number of log records in the export queue",
        env="OTEL_BLRP_MAX_QUEUE_SIZE",
    )
    log_max_export_batch_size: int = _setting(
        512,
        parsers.integer(low=1),
        "maximum number of log records in one export",
        env="OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    )
    log_schedule_delay: float = _setting(
        1.0,
        parsers.milliseconds,
        "maximum time that a log record waits in the export queue",
        env="OTEL_BLRP_SCHEDULE_DELAY",
    )
    metric_interval: float = _setting(
        60.0, parsers.milliseconds, "interval between metric exports", env="OTEL_METRIC_EXPORT_INTERVAL"
    )
    temporality: str = _setting(
        "cumulative",
        parsers.temporality,
        "aggregation temporality; only cumulative works with several worker processes",
        env="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    )
    shutdown_timeout: float = _setting(5.0, parsers.seconds(), "maximum time that shutdown spends on the last exports")

    # Traces
    traces_sampler: str = _setting(
        "parentbased_always_on",
        parsers.one_of(
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
        "sampler",
        env="OTEL_TRACES_SAMPLER",
    )
    traces_sampler_arg: float = _setting(
        1.0, parsers.number(low=0, high=1), "sampling ratio of the traceidratio samplers", env="OTEL_TRACES_SAMPLER_ARG"
    )
    sampler: Sampler | None = _setting(  # noqa: RUF009  a dataclass field like the others
        None, parsers.sampler, "custom OpenTelemetry sampler", env=""
    )
    propagators: tuple[str, ...] = _setting(
        ("tracecontext", "baggage"), parsers.propagators, "propagators of trace context", env="OTEL_PROPAGATORS"
    )
    baggage_keys: tuple[str, ...] = _setting(
        ("connectsoft.tenant.id", "connectsoft.correlation.id", "connectsoft.execution.id"),
        parsers.string_list,
        "baggage entries copied to spans and log lines",
    )
    exception_signal: str = _setting(
        "logs",
        parsers.one_of("logs", "logs/dup"),
        "logs/dup adds a span event to the log record of an exception",
        env="OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN",
    )
    instrumentations: tuple[str, ...] = _setting(
        ("auto",), parsers.string_list, "client libraries to instrument: auto, none, or a list of names"
    )

    # Metrics
    exemplar_filter: str = _setting(
        "trace_based",
        parsers.one_of("trace_based", "always_on", "always_off"),
        "which measurements can become exemplars",
        env="OTEL_METRICS_EXEMPLAR_FILTER",
    )
    cardinality_limit: int = _setting(
        2000, parsers.integer(low=1), "maximum number of series of a metric; further series go to an overflow series"
    )
    metric_tenants: tuple[str, ...] = _setting(
        (), parsers.string_list, "tenants that get their own value of the tenant label on metrics"
    )
    metrics_multiprocess_dir: str | None = _setting(
        None,
        parsers.text,
        "directory shared by the workers of one service; /dev/shm if present, else the temporary directory",
    )
    metrics_token: str | None = _setting(None, parsers.text, "bearer token required for /metrics", secret=True)
    prometheus_host: str | None = _setting(
        None, parsers.text, "address of the management port", env="OTEL_EXPORTER_PROMETHEUS_HOST"
    )
    prometheus_port: int | None = _setting(
        None, parsers.integer(high=65535), "number of the management port", env="OTEL_EXPORTER_PROMETHEUS_PORT"
    )

    # Logs
    log_level: str = _setting("info", parsers.level, "minimum log level", env="LOG_LEVEL")
    log_profile: str | None = _setting(
        None,
        parsers.one_of("otel", "connectsoft", "ecs", "gcp", "console"),
        "log format; by default otel, or console on a terminal",
    )
    log_levels: Mapping[str, str] = _setting(
        dict, parsers.levels, "minimum level per logger and its children: sqlalchemy=warning,orders=debug"
    )
    log_error_rate_limit: int = _setting(
        10, parsers.integer(), "maximum number of identical ERROR and FATAL lines per second; 0 disables the limit"
    )
    log_rate_limit: int = _setting(
        0, parsers.integer(), "maximum number of lines below ERROR per second, logger and message; 0 disables the limit"
    )
    redact_keys: tuple[str, ...] = _setting((), parsers.string_list, "additional field names whose values are redacted")
    redact_pattern: re.Pattern[str] | None = _setting(  # noqa: RUF009  a dataclass field like the others
        None, parsers.pattern, "additional expression whose matches are redacted in text"
    )
    redact_emails: bool = _setting(False, parsers.boolean, "redact e-mail addresses in text")
    log_tenant_id: str = _setting("plain", parsers.one_of("plain", "hash"), "format of tenant ids in log lines")
    log_tenant_key: str | None = _setting(
        None, parsers.text, "key for hashing tenant ids; use the same in all services", secret=True
    )
    propagate_context_to_threads: bool = _setting(
        True, parsers.boolean, "propagate context to threads of `ThreadPoolExecutor` and of `run_in_executor`"
    )
    access_log: str = _setting(
        "all", parsers.one_of("all", "errors", "off"), "which requests, job runs and messages are logged"
    )
    access_log_sample: float = _setting(
        1.0, parsers.number(low=0, high=1), "share of successful requests in the access log"
    )
    access_log_slow: float | None = _setting(
        None, parsers.seconds(), "duration from which a request is always logged, as a warning"
    )
    access_log_4xx_level: str = _setting(
        "info", parsers.one_of("info", "warning"), "level of access log lines of 4xx responses"
    )
    access_log_url_path: bool | None = _setting(
        None,
        parsers.boolean,
        "adds the redacted url.path to access log lines without a route, on a terminal to all; by default only in development",
    )

    # Requests
    known_methods: tuple[str, ...] | None = _setting(
        None,
        parsers.string_list,
        "HTTP methods recorded by name; others are recorded as _OTHER",
        env="OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",
    )
    request_headers: tuple[str, ...] = _setting(
        (),
        parsers.string_list,
        "request headers recorded on spans",
        env="OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    )
    response_headers: tuple[str, ...] = _setting(
        (),
        parsers.string_list,
        "response headers recorded on spans",
        env="OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    )
    sanitized_headers: tuple[str, ...] = _setting(
        (),
        parsers.string_list,
        "additional headers whose values are redacted",
        env="OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS",
    )
    url_query_allowlist: tuple[str, ...] = _setting((), parsers.string_list, "query parameters that are never redacted")
    trust_inbound: bool = _setting(
        True,
        parsers.boolean,
        "false at a public edge: start a new trace with a link to the caller's, and ignore baggage",
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        (), parsers.networks, "proxies whose Forwarded and X-Forwarded-* headers are used"
    )
    tenant_header: str | None = _setting(None, parsers.text, "request header with the tenant id; unset by default")

    # Messages and workers
    message_trace_continuation: str = _setting(
        "parent",
        parsers.one_of("parent", "link"),
        "parent continues the trace of the sender of a single message; link only links to it",
    )
    message_trace_max_age: float = _setting(
        300.0, parsers.seconds(), "message age from which processing only links to the trace of the sender"
    )
    drain_timeout: float = _setting(
        20.0, parsers.seconds(), "maximum time that a worker waits for active runs after SIGTERM"
    )
    schedule_state_file: str | None = _setting(
        None, parsers.text, "file that stores the last runs of scheduled jobs across restarts"
    )

    pushgateway_url: str | None = _setting(
        None, parsers.http_url, "Pushgateway that receives the metrics of the jobs of a process when it ends"
    )
    metrics_textfile_directory: str | None = _setting(
        None, parsers.text, "directory for node-exporter's textfile collector, for the same metrics"
    )

    # Endpoints
    liveness_path: str = _setting("/health/live", parsers.path, "path of the liveness endpoint")
    liveness_path_alias: str = _setting(
        "/alive", parsers.path, "second path of the liveness endpoint; empty disables it"
    )
    readiness_path: str = _setting("/health/ready", parsers.path, "path of the readiness endpoint")
    startup_path: str = _setting("/health/startup", parsers.path, "path of the startup endpoint")
    startup_path_alias: str = _setting(
        "/startup", parsers.path, "second path of the startup endpoint; empty disables it"
    )
    health_path: str = _setting("/health", parsers.path, "path of readiness with all checks; empty disables it")
    metrics_path: str = _setting("/metrics", parsers.path, "path of the metrics endpoint; empty disables it")
    info_path: str = _setting("/info", parsers.path, "path of the info endpoint; empty disables it")
    loggers_path: str = _setting(
        "", parsers.path, "path of the log level endpoint, which needs the details token; disabled by default"
    )
    loggers_override_ttl: float = _setting(
        900.0, parsers.seconds(1), "maximum lifetime of a log level that was set at run time"
    )
    details_token: str | None = _setting(
        None, parsers.text, "bearer token that allows health details, /metrics and /info", secret=True
    )
    details_networks: tuple[Network, ...] = _setting(
        (), parsers.networks, "networks that may see health details, /metrics and /info"
    )
    metrics_public: bool = _setting(
        False, parsers.boolean, "allow /metrics and /info for requests that come through a proxy"
    )

    # SLOs
    slo_file: str | None = _setting(None, parsers.text, "TOML file that declares the SLOs of the service")
    objectives: tuple[Any, ...] = _setting((), parsers.objectives, "SLOs as Python objects, instead of a file", env="")

    # Health and lifecycle
    check_interval: float = _setting(5.0, parsers.seconds(0.1), "interval between runs of a health check")
    check_timeout: float = _setting(2.0, parsers.seconds(0.01), "time limit of a health check")
    disabled_checks: tuple[str, ...] = _setting(
        (), parsers.string_list, "health checks that are not run and not reported"
    )
    startup_grace_period: float = _setting(0.0, parsers.seconds(), "time after start during which readiness fails")
    drain_delay: float | None = _setting(
        None, parsers.seconds(), "time for which requests are served after SIGTERM; by default that of the platform"
    )
    max_request_duration: float = _setting(
        10.0, parsers.seconds(), "longest request that shutdown waits for; part of the shutdown budget"
    )
    termination_grace_period: float | None = _setting(
        None, parsers.seconds(), "time from SIGTERM to SIGKILL; by default that of the platform"
    )
    heartbeat_file: str | None = _setting(None, parsers.text, "file that is touched every 5 s while liveness passes")
    liveness_stall: float = _setting(30.0, parsers.seconds(1), "event loop stall after which liveness fails")

    application_title: str | None = field(default=None, compare=False, repr=False)
    """Title of the application, which names the service if no setting and no platform does."""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Names of the settings that environment variables set, with the variables; of a signal: `otlp_endpoint.traces`."""

    def redaction_policy(self) -> RedactionPolicy:
        """A policy for secrets that includes `redact_keys`, `redact_emails` and `redact_pattern`."""
        return RedactionPolicy(self.redact_keys, self.redact_emails, self.redact_pattern)

    def __repr__(self) -> str:
        """All settings, without secrets: debuggers and error reports show it."""
        values = [
            f"{field.name}={quote_value(field, getattr(self, field.name))}" for field in fields(self) if field.metadata
        ]
        return f"Settings({', '.join(values)})"


def quote_value(setting: Field[Any], value: Any) -> str:
    """A value for error texts: `...` for a secret setting, other values redacted."""
    if setting.metadata["secret"]:
        return "..."
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    text = safe_str(value)
    if setting.metadata["reader"] in (parsers.url, parsers.http_url):
        text = _USER_INFO.sub(rf"\g<1>{REDACTED}@", text)
    return shorten(DEFAULT_POLICY.redact_text(text), 100)


def variable(name: str, env: str | None) -> str:
    """The environment variable of a field; empty for a field that can only be an argument."""
    return f"{PREFIX}{name.upper()}" if env is None else env

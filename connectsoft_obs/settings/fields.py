"""The settings: every field, its environment variable, its default and what it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectsoft_obs.redaction import RedactionPolicy
from connectsoft_obs.settings import parsers
from connectsoft_obs.settings.parsers import Network, Reader

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

PREFIX = "CONNECTSOFT_OBS_"


def _set(default: Any, reader: Reader, help_: str, *, env: str | None = None, secret: bool = False) -> Any:
    """A field of `Settings`.

    `env` names the standard variable where one exists, else the variable is CONNECTSOFT_OBS_<FIELD>. The value of a
    `secret` field is never quoted in errors or logs.
    """
    metadata = {"reader": reader, "env": env, "help": help_, "secret": secret}
    factory: Callable[[], Any] | None = default if callable(default) else None
    return field(default_factory=factory, metadata=metadata) if factory else field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one process observes itself: environment first, arguments second, defaults last.

    Durations are seconds. Every field can be passed to `configure()` or to the middleware line under its name.
    Instances are immutable and safe to share between threads. Variables follow the OpenTelemetry specification
    wherever it has one (environment-variables, SDK and OTLP exporter pages).
    """

    # Who we are
    service: str | None = _set(None, parsers.text, "name of the service", env="OTEL_SERVICE_NAME")
    namespace: str | None = _set(None, parsers.text, "family of services it belongs to")
    version: str | None = _set(None, parsers.text, "its version")
    environment: str | None = _set(None, parsers.text, "development, test, staging, production or your own word")
    resource_attributes: Mapping[str, str] = _set(
        dict, parsers.key_values, "more attributes of everything that is reported", env="OTEL_RESOURCE_ATTRIBUTES"
    )

    # What is sent, and where
    disabled: bool = _set(
        False, parsers.boolean, "no spans, metrics, access lines or exports at all", env="OTEL_SDK_DISABLED"
    )
    traces_exporter: tuple[str, ...] | None = _set(
        None,
        parsers.any_of("otlp", "azuremonitor", "console", "none"),
        "where spans go; console is standard error, for a look",
        env="OTEL_TRACES_EXPORTER",
    )
    metrics_exporter: tuple[str, ...] | None = _set(
        None,
        parsers.any_of("otlp", "azuremonitor", "prometheus", "none"),
        "where metrics go besides /metrics",
        env="OTEL_METRICS_EXPORTER",
    )
    logs_exporter: tuple[str, ...] | None = _set(
        None,
        parsers.any_of("otlp", "azuremonitor", "console", "none"),
        "where log lines go besides stdout",
        env="OTEL_LOGS_EXPORTER",
    )
    otlp_endpoint: str | None = _set(
        None, parsers.url, "collector; unset means nothing is sent", env="OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    otlp_protocol: str = _set(
        "http/protobuf", parsers.one_of("http/protobuf", "grpc"), "OTLP transport", env="OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    otlp_headers: Mapping[str, str] = _set(
        dict, parsers.key_values, "headers of every export", env="OTEL_EXPORTER_OTLP_HEADERS", secret=True
    )
    otlp_timeout: float = _set(
        10.0, parsers.milliseconds, "one export, retries included", env="OTEL_EXPORTER_OTLP_TIMEOUT"
    )
    otlp_compression: str = _set(
        "none", parsers.one_of("none", "gzip"), "compression of exports", env="OTEL_EXPORTER_OTLP_COMPRESSION"
    )
    otlp_certificate: str | None = _set(
        None, parsers.text, "CA bundle to verify the collector with", env="OTEL_EXPORTER_OTLP_CERTIFICATE"
    )
    otlp_client_key: str | None = _set(
        None, parsers.text, "private key for mutual TLS", env="OTEL_EXPORTER_OTLP_CLIENT_KEY"
    )
    otlp_client_certificate: str | None = _set(
        None, parsers.text, "certificate for mutual TLS", env="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
    )
    otlp_insecure: bool = _set(
        False, parsers.boolean, "no TLS for a gRPC address without a scheme", env="OTEL_EXPORTER_OTLP_INSECURE"
    )
    otlp_overrides: Mapping[str, Mapping[str, Any]] = _set(
        dict, parsers.passthrough, "fields that OTEL_EXPORTER_OTLP_<SIGNAL>_* set for one signal", env=""
    )
    azure_connection_string: str | None = _set(
        None,
        parsers.text,
        "Application Insights resource that everything is sent to, by the extra [azure]",
        env="APPLICATIONINSIGHTS_CONNECTION_STRING",
        secret=True,
    )
    span_max_queue_size: int = _set(
        8192, parsers.integer(low=1), "spans waiting at most", env="OTEL_BSP_MAX_QUEUE_SIZE"
    )
    span_max_export_batch_size: int = _set(
        512, parsers.integer(low=1), "spans in one export", env="OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    )
    span_schedule_delay: float = _set(
        5.0, parsers.milliseconds, "longest wait of a span", env="OTEL_BSP_SCHEDULE_DELAY"
    )
    log_max_queue_size: int = _set(
        8192, parsers.integer(low=1), "log records waiting at most", env="OTEL_BLRP_MAX_QUEUE_SIZE"
    )
    log_max_export_batch_size: int = _set(
        512, parsers.integer(low=1), "log records in one export", env="OTEL_BLRP_MAX_EXPORT_BATCH_SIZE"
    )
    log_schedule_delay: float = _set(
        1.0, parsers.milliseconds, "longest wait of a log record", env="OTEL_BLRP_SCHEDULE_DELAY"
    )
    metric_interval: float = _set(
        60.0, parsers.milliseconds, "time between metric exports", env="OTEL_METRIC_EXPORT_INTERVAL"
    )
    temporality: str = _set(
        "cumulative",
        parsers.one_of("cumulative", "delta", "lowmemory"),
        "only cumulative can be kept across processes",
        env="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    )
    shutdown_timeout: float = _set(5.0, parsers.seconds, "longest time a shutdown spends on sending what is left")

    # Traces
    traces_sampler: str = _set(
        "parentbased_always_on",
        parsers.one_of(
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
        "which requests are traced",
        env="OTEL_TRACES_SAMPLER",
    )
    traces_sampler_arg: float = _set(
        1.0, parsers.number(low=0, high=1), "share of the ratio samplers", env="OTEL_TRACES_SAMPLER_ARG"
    )
    sampler: Sampler | None = _set(  # noqa: RUF009  a field, like all others
        None, parsers.sampler, "an OpenTelemetry sampler of your own, as an argument only", env=""
    )
    propagators: tuple[str, ...] = _set(
        ("tracecontext", "baggage"), parsers.string_list, "headers that carry the trace", env="OTEL_PROPAGATORS"
    )
    baggage_keys: tuple[str, ...] = _set(
        ("connectsoft.tenant.id", "connectsoft.correlation.id", "connectsoft.execution.id"),
        parsers.string_list,
        "baggage entries copied to spans and log lines",
    )
    exception_signal: str = _set(
        "logs",
        parsers.one_of("logs", "logs/dup"),
        "logs/dup adds a span event to the log record of an exception",
        env="OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN",
    )
    instrumentations: tuple[str, ...] = _set(
        ("auto",), parsers.string_list, "client libraries to instrument: auto, none, or their names"
    )

    # Metrics
    exemplar_filter: str = _set(
        "trace_based",
        parsers.one_of("trace_based", "always_on", "always_off"),
        "which measurements may become exemplars",
        env="OTEL_METRICS_EXEMPLAR_FILTER",
    )
    cardinality_limit: int = _set(2000, parsers.integer(low=1), "series a metric may have before it overflows")
    metric_tenants: tuple[str, ...] = _set((), parsers.string_list, "tenants that get a metric label of their own")
    metrics_multiprocess_dir: str | None = _set(
        None, parsers.text, "directory in which the workers of a service meet; memory or the temporary one by default"
    )
    metrics_token: str | None = _set(None, parsers.text, "bearer token that /metrics demands of everybody", secret=True)
    prometheus_host: str | None = _set(
        None, parsers.text, "address of the side listener", env="OTEL_EXPORTER_PROMETHEUS_HOST"
    )
    prometheus_port: int | None = _set(
        None, parsers.integer(high=65535), "port of the side listener", env="OTEL_EXPORTER_PROMETHEUS_PORT"
    )

    # Logs
    log_level: str = _set(
        "info", parsers.one_of("debug", "info", "warning", "error", "critical"), "lowest level written", env="LOG_LEVEL"
    )
    log_profile: str | None = _set(
        None,
        parsers.one_of("otel", "connectsoft", "ecs", "gcp", "console"),
        "shape of a log line; otel, or console on a terminal",
    )
    log_levels: Mapping[str, str] = _set(
        dict, parsers.levels, "lowest level of single loggers and those below them: sqlalchemy=warning,orders=debug"
    )
    log_error_rate_limit: int = _set(
        10, parsers.integer(), "identical ERROR and FATAL lines written in one second; 0 for no limit"
    )
    log_rate_limit: int = _set(
        0, parsers.integer(), "lines of one logger and message written in one second, below ERROR; 0 for no limit"
    )
    redact_keys: tuple[str, ...] = _set((), parsers.string_list, "more words that make a field's value a secret")
    redact_pattern: re.Pattern[str] | None = _set(  # noqa: RUF009  a field, like all others
        None, parsers.pattern, "what else is replaced in texts of log lines"
    )
    redact_emails: bool = _set(False, parsers.boolean, "replace e-mail addresses in log lines too")
    log_tenant_id: str = _set("plain", parsers.one_of("plain", "hash"), "how log lines show tenant ids")
    log_tenant_key: str | None = _set(
        None, parsers.text, "key of the tenant ids' hash; the same in all services", secret=True
    )
    propagate_context_to_threads: bool = _set(
        True, parsers.boolean, "carry the trace into run_in_executor threads, where no executor was set"
    )
    access_log: str = _set(
        "all", parsers.one_of("all", "errors", "off"), "which requests, runs and messages get a line of their own"
    )
    access_log_sample: float = _set(
        1.0, parsers.number(low=0, high=1), "share of successful requests that get an access line"
    )
    access_log_slow: float | None = _set(
        None, parsers.seconds, "duration from which a request gets an access line in any case, as a warning"
    )
    access_log_4xx_level: str = _set(
        "info", parsers.one_of("info", "warning"), "level of the access line of a 4xx response"
    )

    # Requests
    known_methods: tuple[str, ...] | None = _set(
        None, parsers.string_list, "methods recorded as given", env="OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"
    )
    request_headers: tuple[str, ...] = _set(
        (),
        parsers.string_list,
        "request headers recorded on spans",
        env="OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    )
    response_headers: tuple[str, ...] = _set(
        (),
        parsers.string_list,
        "response headers recorded on spans",
        env="OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    )
    sanitized_headers: tuple[str, ...] = _set(
        (),
        parsers.string_list,
        "headers recorded as REDACTED besides the well-known ones",
        env="OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS",
    )
    url_query_allowlist: tuple[str, ...] = _set(
        (), parsers.string_list, "query keys whose values are recorded although they look secret"
    )
    trust_inbound: bool = _set(True, parsers.boolean, "false at a public edge: new traces, linked, and no baggage")
    trusted_proxies: tuple[Network, ...] = _set((), parsers.networks, "peers whose forwarded headers are believed")
    tenant_header: str | None = _set(None, parsers.text, "header that names the tenant; none is read unless set")

    # Messages and workers
    message_trace_continuation: str = _set(
        "parent", parsers.one_of("parent", "link"), "whether a single fresh message continues its sender's trace"
    )
    message_trace_max_age: float = _set(
        300.0, parsers.seconds, "age of a message from which on its sender is only linked"
    )
    drain_timeout: float = _set(20.0, parsers.seconds, "longest time a worker waits after SIGTERM for what it is doing")
    schedule_state_file: str | None = _set(
        None, parsers.text, "file that keeps the last runs of scheduled jobs across restarts"
    )

    # Endpoints
    liveness_path: str = _set("/health/live", parsers.path, "liveness")
    liveness_path_alias: str = _set("/alive", parsers.path, "liveness, second path; empty switches it off")
    readiness_path: str = _set("/health/ready", parsers.path, "readiness")
    startup_path: str = _set("/health/startup", parsers.path, "startup")
    startup_path_alias: str = _set("/startup", parsers.path, "startup, second path; empty switches it off")
    health_path: str = _set("/health", parsers.path, "readiness with every check; empty switches it off")
    metrics_path: str = _set("/metrics", parsers.path, "Prometheus and OpenMetrics; empty switches it off")
    info_path: str = _set("/info", parsers.path, "what is running; empty switches it off")
    loggers_path: str = _set(
        "", parsers.path, "log levels at run time, for holders of the details token; off unless set"
    )
    loggers_override_ttl: float = _set(900.0, parsers.number(low=1), "longest time a level set at run time stays")
    details_token: str | None = _set(
        None, parsers.text, "bearer token that opens details, /metrics and /info", secret=True
    )
    details_networks: tuple[Network, ...] = _set((), parsers.networks, "peers that see details, /metrics and /info")
    metrics_public: bool = _set(False, parsers.boolean, "show /metrics and /info to requests that come through a proxy")

    # SLOs
    slo_file: str | None = _set(None, parsers.text, "TOML file that declares the SLOs of the service")
    objectives: tuple[Any, ...] = _set((), parsers.objectives, "SLOs as objects, instead of a file", env="")

    # Health and life cycle
    check_interval: float = _set(5.0, parsers.number(low=0.1), "time between runs of a health check")
    check_timeout: float = _set(2.0, parsers.number(low=0.01), "longest run of a health check")
    disabled_checks: tuple[str, ...] = _set((), parsers.string_list, "health checks that are neither run nor reported")
    startup_grace_period: float = _set(0.0, parsers.seconds, "time after start during which readiness stays red")
    drain_delay: float | None = _set(None, parsers.seconds, "time served after SIGTERM; unset follows the platform")
    max_request_duration: float = _set(
        10.0, parsers.seconds, "longest request that a stop should wait for, for the budget"
    )
    termination_grace_period: float | None = _set(
        None, parsers.seconds, "time from SIGTERM to SIGKILL; unset is the platform's default"
    )
    heartbeat_file: str | None = _set(None, parsers.text, "file written every 5 s while liveness is green")
    liveness_stall: float = _set(30.0, parsers.number(low=1), "stall of the event loop that turns liveness red")

    def redaction_policy(self) -> RedactionPolicy:
        """A policy for secrets that includes `redact_keys`, `redact_emails` and `redact_pattern`."""
        return RedactionPolicy(self.redact_keys, self.redact_emails, self.redact_pattern)


def variable(name: str, env: str | None) -> str:
    """The environment variable of a field; empty for a field that has none of its own."""
    return f"{PREFIX}{name.upper()}" if env is None else env

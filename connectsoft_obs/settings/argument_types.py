"""Types of the arguments of `configure()`, `worker()` and the middleware, for completion and type checkers.

A test compares this module with the fields of `Settings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

Strings: TypeAlias = str | Sequence[str]
"""Text separated by commas, or a sequence of strings."""


class SettingsArguments(TypedDict, total=False):
    """The fields of `Settings` except service, namespace, version and environment. None counts as not passed."""

    resource_attributes: Mapping[str, str] | str | None
    disabled: bool | None
    traces_exporter: Strings | None
    metrics_exporter: Strings | None
    logs_exporter: Strings | None
    otlp_endpoint: str | None
    otlp_protocol: str | None
    otlp_headers: Mapping[str, str] | str | None
    otlp_timeout: float | None
    otlp_compression: str | None
    otlp_certificate: str | None
    otlp_client_key: str | None
    otlp_client_certificate: str | None
    otlp_insecure: bool | None
    otlp_overrides: Mapping[str, Mapping[str, Any]] | None
    azure_connection_string: str | None
    span_max_queue_size: int | None
    span_max_export_batch_size: int | None
    span_schedule_delay: float | None
    log_max_queue_size: int | None
    log_max_export_batch_size: int | None
    log_schedule_delay: float | None
    metric_interval: float | None
    temporality: str | None
    shutdown_timeout: float | None
    traces_sampler: str | None
    traces_sampler_arg: float | None
    sampler: Sampler | None
    propagators: Strings | None
    baggage_keys: Strings | None
    exception_signal: str | None
    instrumentations: Strings | None
    exemplar_filter: str | None
    cardinality_limit: int | None
    metric_tenants: Strings | None
    metrics_multiprocess_dir: str | None
    metrics_token: str | None
    prometheus_host: str | None
    prometheus_port: int | None
    log_level: str | None
    log_profile: str | None
    log_levels: Mapping[str, str] | str | None
    log_error_rate_limit: int | None
    log_rate_limit: int | None
    redact_keys: Strings | None
    redact_pattern: re.Pattern[str] | str | None
    redact_emails: bool | None
    log_tenant_id: str | None
    log_tenant_key: str | None
    propagate_context_to_threads: bool | None
    access_log: str | None
    access_log_sample: float | None
    access_log_slow: float | None
    access_log_4xx_level: str | None
    access_log_url_path: bool | None
    known_methods: Strings | None
    request_headers: Strings | None
    response_headers: Strings | None
    sanitized_headers: Strings | None
    url_query_allowlist: Strings | None
    trust_inbound: bool | None
    trusted_proxies: Strings | None
    tenant_header: str | None
    message_trace_continuation: str | None
    message_trace_max_age: float | None
    drain_timeout: float | None
    schedule_state_file: str | None
    pushgateway_url: str | None
    metrics_textfile_directory: str | None
    liveness_path: str | None
    liveness_path_alias: str | None
    readiness_path: str | None
    startup_path: str | None
    startup_path_alias: str | None
    health_path: str | None
    metrics_path: str | None
    info_path: str | None
    loggers_path: str | None
    loggers_override_ttl: float | None
    details_token: str | None
    details_networks: Strings | None
    metrics_public: bool | None
    slo_file: str | None
    objectives: Any
    check_interval: float | None
    check_timeout: float | None
    disabled_checks: Strings | None
    startup_grace_period: float | None
    drain_delay: float | None
    max_request_duration: float | None
    termination_grace_period: float | None
    heartbeat_file: str | None
    liveness_stall: float | None

"""Words that people search for, and the page and section that the search of the documentation shows first for them.

The search compares a query with index entries as text: an entry is shown if it contains the query and is at most twice as
long. The entries below are added to the pages when the documentation is built, and are listed on its index page.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

TERMS: dict[str, tuple[str, ...]] = {
    "tutorial": ("getting started", "quick start", "quickstart", "first steps", "hello world", "installation", "install"),
    "how-to/azure": ("azure", "aks", "bicep"),
    "how-to/azure#Application Insights": (
        "application insights", "app insights", "azure monitor", "apm", "connection string", "appinsights",
    ),
    "how-to/azure#Container Apps": ("container apps", "aca"),
    "how-to/azure#App Service": ("app service", "web app"),
    "how-to/deployment": ("rollback", "deployment", "canary", "pipeline", "helm", "kubernetes manifest", "deployment yaml"),
    "how-to/doctor": ("troubleshooting", "debug configuration", "no data", "nothing is exported", "effective settings"),
    "how-to/fastapi": ("fastapi", "starlette", "middleware", "asgi"),
    "how-to/fastapi#Routes": ("http.route", "route template", "path template", "mount"),
    "how-to/fastapi#Errors": ("exception handler", "unhandled exception", "status 500"),
    "how-to/fastapi#Streams and WebSockets": ("websocket", "server-sent events", "sse", "streaming response"),
    "how-to/fastapi#Outgoing calls": ("httpx", "requests library", "http client", "outgoing requests", "aiohttp client"),
    "how-to/gunicorn": (
        "gunicorn", "uvicorn workers", "hypercorn", "granian", "prometheus multiprocess", "prometheus_multiproc_dir",
        "multiprocess mode", "preload", "multiple workers",
    ),
    "how-to/health": (
        "health check", "healthz", "livez", "readyz", "kubernetes probes", "k8s probes", "probe", "actuator", "health endpoint",
    ),
    "how-to/health#What each probe means": ("liveness probe", "readiness probe", "startup probe", "liveness", "readiness"),
    "how-to/health#Built-in checks": ("database check", "postgres", "redis", "dependency check", "disk space"),
    "how-to/health#Run startup tasks": ("startup task", "warm up", "warm cache", "startup"),
    "how-to/health#Fail liveness": ("restart the container", "deadlock", "event loop stall"),
    "how-to/health#Response format and details": ("health checks ui", "503", "details token", "health json"),
    "how-to/health#Probes without HTTP": ("exec probe", "grpc health", "systemd", "watchdog", "heartbeat file"),
    "how-to/logs": ("structured logging", "json logs", "json logging", "structlog", "logging", "stdout"),
    "how-to/logs#Write log lines": ("contextual logging", "mdc", "bind context", "correlation id", "request id", "trace id in logs"),
    "how-to/logs#Access log": ("access log", "request log", "uvicorn access log"),
    "how-to/logs#Log formats": ("ecs", "elastic common schema", "google cloud logging", "log format", "log profile"),
    "how-to/logs#Redaction": ("redaction", "mask", "masking", "pii", "gdpr", "secrets", "passwords", "sensitive data", "scrubbing"),
    "how-to/logs#Rate limits and sampling": ("log sampling", "log rate limit", "too many logs", "noisy logs"),
    "how-to/logs#Logs on a terminal": ("no_color", "colours", "colored logs", "pretty logs", "traceback", "terminal"),
    "how-to/logs#Levels": ("log level", "change log level at runtime", "debug logging"),
    "how-to/metrics": ("counter", "gauge", "histogram", "business metrics", "statsd", "custom metrics", "prometheus client"),
    "how-to/metrics#Several workers": ("metrics per worker",),
    "how-to/migrating": ("prometheus-fastapi-instrumentator", "starlette-exporter", "migrate", "microbootstrap"),
    "how-to/models": ("llm", "openai", "genai", "token usage", "gen_ai"),
    "how-to/opentelemetry": ("opentelemetry", "tracerprovider", "tracer provider", "otel"),
    "how-to/opentelemetry#Environment variables": (
        "otel_exporter_otlp_endpoint", "otlp", "collector", "otel_service_name", "otel environment variables",
        "otel_resource_attributes",
    ),
    "how-to/opentelemetry#Traces on a terminal": ("console exporter", "see a trace", "trace tree", "otel_traces_exporter"),
    "how-to/opentelemetry#A custom sampler": ("sampler", "sampling", "trace sampling", "otel_traces_sampler", "head sampling"),
    "how-to/opentelemetry#B3 headers": ("b3", "propagator", "zipkin", "propagation", "traceparent", "context propagation"),
    "how-to/other-frameworks": ("django", "litestar", "quart", "falcon", "blacksheep", "sanic", "flask"),
    "how-to/rolling-restarts": (
        "graceful shutdown", "sigterm", "zero downtime", "rolling update", "prestop", "terminationgraceperiodseconds", "draining",
    ),
    "how-to/slos": ("slo", "service level objective", "error budget", "burn rate", "alerting", "alerts", "sloth", "openslo", "pyrra"),
    "how-to/slos#Generate and load": ("grafana", "dashboard", "grafana dashboard", "alertmanager", "recording rules"),
    "how-to/tests": ("pytest", "unit test", "fixture", "assert logs", "test telemetry"),
    "how-to/workers": (
        "celery", "celery metrics", "celery monitoring", "arq", "rq", "taskiq", "faststream", "apscheduler", "dramatiq", "huey",
        "background worker", "background jobs", "task queue",
    ),
    "how-to/workers#Messages": ("rabbitmq", "kafka", "service bus", "message queue", "consumer lag", "storage queue"),
    "how-to/workers#Schedules": ("cron", "cron monitoring", "missed job", "scheduled jobs", "dead man's switch"),
    "how-to/short-lived-processes": ("pushgateway", "cronjob", "textfile collector", "node-exporter", "batch job", "short-lived job"),
    "explanation/cardinality": ("cardinality", "high cardinality", "label explosion", "too many series"),
    "explanation/performance": ("performance", "overhead", "benchmark", "latency overhead", "cpu cost"),
    "explanation/performance#Memory": ("memory usage", "memory leak", "rss"),
    "explanation/process-exit": ("lost spans", "flush", "atexit", "flush on exit"),
    "explanation/exporter-faults": ("dropped spans", "collector unavailable", "queue full", "retries"),
    "explanation/coexistence": ("double spans", "duplicate spans", "duplicate metrics", "auto instrumentation"),
    "explanation/comparison": ("alternatives", "ddtrace", "sentry", "logfire", "datadog", "comparison"),
    "explanation/security": ("security", "threat model", "trusted proxies", "x-forwarded-for", "trust boundary"),
    "explanation/outcomes": ("success rate", "error rate", "4xx", "client disconnect", "499"),
    "reference/settings": ("environment variables", "configuration", "settings", "options", "config"),
    "reference/metrics": ("metrics reference", "red metrics", "http_server_request_duration_seconds", "metric names"),
    "reference/vocabulary#Headers": ("x-correlation-id", "x-request-id", "headers"),
}  # fmt: skip
"""Page, or page and heading -> search terms."""


def add_index_entries(_: Sphinx, page: str, source: list[str]) -> None:
    """Add the index entries of a page below its headings. Handler of Sphinx's event `source-read`.

    Raises:
        ValueError: a heading does not exist.
    """
    for target, terms in TERMS.items():
        name, _, heading = target.partition("#")
        if name != page:
            continue
        line = re.search(rf"^#+ {re.escape(heading)}$" if heading else r"^# .*$", source[0], re.MULTILINE)
        if line is None:
            raise ValueError(f"docs/search_terms.py: {page} has no heading {heading!r}")
        entries = "".join(f"! {term}, " for term in terms).removesuffix(", ")
        source[0] = f"{source[0][: line.end()]}\n\n```{{index}} {entries}\n```\n{source[0][line.end() :]}"

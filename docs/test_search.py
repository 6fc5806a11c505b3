"""The search of the built documentation shows the right page first; `nox -s docs` builds it before this test."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

INDEX = Path(__file__).parent / "_build" / "html" / "searchindex.js"
QUERIES = {
    "how-to/health": (
        "liveness probe", "readiness", "healthz", "health check", "startup probe", "kubernetes probes", "Health endpoint",
        "postgres", "exec probe", "event loop stall",
    ),
    "how-to/gunicorn": ("gunicorn", "prometheus multiprocess", "PROMETHEUS_MULTIPROC_DIR", "multiple workers"),
    "how-to/logs": (
        "structured logging", "JSON logs", "correlation id", "request id", "access log", "mask", "PII", "passwords", "log level",
        "traceback", "structlog",
    ),
    "how-to/rolling-restarts": ("graceful shutdown", "SIGTERM", "zero downtime"),
    "how-to/azure": ("Application Insights", "APM", "azure monitor"),
    "how-to/workers": ("celery metrics", "celery", "cron monitoring", "rabbitmq", "background jobs"),
    "how-to/opentelemetry": ("sampling", "OTLP", "OTEL_EXPORTER_OTLP_ENDPOINT", "traceparent", "console exporter", "collector"),
    "how-to/slos": ("error budget", "alerts", "grafana", "burn rate"),
    "how-to/metrics": ("histogram", "business metrics"),
    "how-to/other-frameworks": ("django", "flask"),
    "how-to/fastapi": ("fastapi", "websocket", "httpx"),
    "how-to/tests": ("pytest",),
    "how-to/migrating": ("prometheus-fastapi-instrumentator",),
    "how-to/models": ("llm",),
    "how-to/doctor": ("troubleshooting",),
    "explanation/performance": ("overhead",),
    "explanation/cardinality": ("high cardinality",),
    "explanation/process-exit": ("lost spans",),
    "reference/settings": ("environment variables", "configuration"),
    "tutorial": ("getting started",),
}  # fmt: skip
MAX_SCORE_OF_OTHER_RESULTS = 26
"""Of titles, objects and words in the script `searchtools.js` of Sphinx; an index entry has 50 to 100."""


@cache
def search_index() -> dict[str, Any]:
    assert INDEX.exists(), "build the documentation first: sphinx-build -E -b html docs docs/_build/html"
    content: dict[str, Any] = json.loads(INDEX.read_text().removeprefix("Search.setIndex(").removesuffix(")"))
    return content


def first_results(query: str) -> set[str]:
    """The pages that the search shows first, by their main index entries, as in `searchtools.js`."""
    query, index = query.lower(), search_index()
    scores: dict[str, int] = {}
    for entry, places in index["indexentries"].items():
        if query in entry and len(query) >= len(entry) / 2:
            for file, _, is_main in places:
                page = index["docnames"][file]
                scores[page] = max(scores.get(page, 0), round(100 * len(query) / len(entry)) if is_main else 0)
    best = max(scores.values(), default=0)
    assert best > MAX_SCORE_OF_OTHER_RESULTS, (
        f"{query!r} has no index entry; add one to docs/search_terms.py, build with -E"
    )
    return {page for page, score in scores.items() if score == best}


@pytest.mark.parametrize(("page", "query"), [(page, query) for page, queries in QUERIES.items() for query in queries])
def test_search_shows_the_right_page_first(page: str, query: str) -> None:
    assert first_results(query) == {page}


def test_index_entry_leads_to_the_section() -> None:
    index = search_index()
    html = (INDEX.parent / "how-to" / "logs.html").read_text()
    [(file, anchor, _)] = index["indexentries"]["pii"]
    assert index["docnames"][file] == "how-to/logs"
    assert (
        html.index('<section id="redaction">') < html.index(f'id="{anchor}"') < html.index('<section id="rate-limits')
    )

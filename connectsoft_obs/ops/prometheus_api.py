"""Questions to a Prometheus server, or to anything that answers like one: Azure Monitor workspaces, Mimir, Thanos."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, TypeAlias

from connectsoft_obs.errors import ConfigurationError, ObsError

Points: TypeAlias = list[tuple[float, float]]
"""Unix times and values, in order; a moment without a value is left out."""

MOST_POINTS = 10_000
"""Prometheus refuses a range with more than 11,000 steps."""


class PrometheusUnavailable(ObsError):
    """The server cannot be reached, or does not answer the question."""


class PrometheusClient:
    """A Prometheus HTTP API. Every method waits for the answer; safe from any thread.

    Args:
        url: its address, without `/api/v1`.
        token: bearer token; for Azure Monitor one of Microsoft Entra ID for `https://prometheus.monitor.azure.com`.
        timeout: seconds to wait for an answer.

    Raises:
        ConfigurationError: the address is not one of HTTP.
    """

    def __init__(self, url: str, token: str = "", timeout: float = 60.0) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ConfigurationError(
                f"prometheus={url!r}", "it is not an HTTP address", "Write http://prometheus.example:9090."
            )
        self.url: str = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout

    def vector(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """The labels and values of an expression at one moment; now by default."""
        form = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        result = self._ask("query", form)["result"]
        return [(row["metric"], float(row["value"][1])) for row in result]

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The value of an expression that has one at most."""
        found = self.vector(expression, at)
        return found[0][1] if found else None

    def range(self, expression: str, start: float, end: float, step: float) -> Points:
        """The values of an expression that has one series at most, at multiples of `step` seconds from start to end."""
        found: Points = []
        position = start - start % step + (step if start % step else 0)
        while position <= end:
            stop = min(end, position + (MOST_POINTS - 1) * step)
            form = {"query": expression, "start": f"{position:.3f}", "end": f"{stop:.3f}", "step": f"{step:g}"}
            rows = self._ask("query_range", form)["result"]
            found += [(float(moment), float(value)) for moment, value in rows[0]["values"]] if rows else []
            position += MOST_POINTS * step
        return found

    def _ask(self, what: str, form: dict[str, str]) -> Any:
        body = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/{what}", body, self._headers)  # noqa: S310  checked above
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                content = json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read(500).decode("utf-8", "replace")
            message = f"{self.url} answered {error.code} to {form['query']}: {said}"
            raise PrometheusUnavailable(message) from None
        except (OSError, ValueError) as error:
            message = f"{self.url} does not answer: {error}"
            raise PrometheusUnavailable(message) from None
        return content["data"]

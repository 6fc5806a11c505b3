"""A client for the Prometheus HTTP API, as Prometheus, Azure Monitor workspaces, Mimir and Thanos serve it."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, TypeAlias

from connectsoft_obs.errors import ConfigurationError, ObsError

Points: TypeAlias = list[tuple[float, float]]
"""Unix times and values in ascending order of time; times without a value are omitted."""

MAX_POINTS = 10_000
"""Steps in one range query; Prometheus rejects a range with more than 11,000."""


class PrometheusUnavailable(ObsError):
    """The server is unreachable or returned an error."""


class PrometheusClient:
    """A client of one Prometheus server. Every method blocks until the response arrives; safe from any thread.

    Args:
        url: address of the server, without `/api/v1`.
        token: bearer token; for Azure Monitor a Microsoft Entra ID token for `https://prometheus.monitor.azure.com`.
        timeout: seconds to wait for a response.

    Raises:
        ConfigurationError: the URL does not start with `http://` or `https://`.
    """

    def __init__(self, url: str, token: str = "", timeout: float = 60.0) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ConfigurationError(
                f"prometheus={url!r}", "it is not an HTTP address", "Write http://prometheus.example:9090."
            )
        self.url: str = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout

    def query(self, expression: str, timestamp: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return the labels and value of each series of an instant query.

        Args:
            expression: PromQL.
            timestamp: Unix time of the evaluation; None for the current time.

        Raises:
            PrometheusUnavailable: the server is unreachable or returned an error.
        """
        parameters = {"query": expression} | ({} if timestamp is None else {"time": f"{timestamp:.3f}"})
        result = self._post("query", parameters)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def query_value(self, expression: str, timestamp: float | None = None) -> float | None:
        """Return the value of an expression with at most one series; None without a series.

        Raises:
            PrometheusUnavailable: the server is unreachable or returned an error.
        """
        result = self.query(expression, timestamp)
        return result[0][1] if result else None

    def query_range(self, expression: str, start: float, end: float, step: float) -> Points:
        """Return the values of an expression with at most one series, at multiples of `step` from start to end.

        Args:
            expression: PromQL.
            start: Unix time.
            end: Unix time.
            step: seconds. Ranges with more than `MAX_POINTS` steps are fetched in several requests.

        Raises:
            PrometheusUnavailable: the server is unreachable or returned an error.
        """
        points: Points = []
        chunk_start = start - start % step + (step if start % step else 0)
        while chunk_start <= end:
            chunk_end = min(end, chunk_start + (MAX_POINTS - 1) * step)
            parameters = {
                "query": expression,
                "start": f"{chunk_start:.3f}",
                "end": f"{chunk_end:.3f}",
                "step": f"{step:g}",
            }
            result = self._post("query_range", parameters)["result"]
            points += [(float(time), float(value)) for time, value in result[0]["values"]] if result else []
            chunk_start += MAX_POINTS * step
        return points

    def query_range_series(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], Points]]:
        """Return labels and values of each series of an expression, in at most `MAX_POINTS` steps.

        Args:
            expression: PromQL.
            start: Unix time.
            end: Unix time.
            step: seconds.

        Raises:
            PrometheusUnavailable: the server is unreachable or returned an error.
        """
        parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        result = self._post("query_range", parameters)["result"]
        return [
            (series["metric"], [(float(time), float(value)) for time, value in series["values"]]) for series in result
        ]

    def _post(self, endpoint: str, parameters: dict[str, str]) -> Any:
        body = urllib.parse.urlencode(parameters).encode()
        url = f"{self.url}/api/v1/{endpoint}"
        request = urllib.request.Request(url, body, self._headers)  # noqa: S310  the constructor checks the scheme
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310
                content = json.load(response)
        except urllib.error.HTTPError as error:
            detail = error.read(500).decode("utf-8", "replace")
            message = f"{self.url} returned HTTP {error.code} for the query {parameters['query']}: {detail}"
            raise PrometheusUnavailable(message) from None
        except (OSError, ValueError) as error:
            message = f"{self.url} does not answer: {error}. Check the URL and that the server is running."
            raise PrometheusUnavailable(message) from None
        return content["data"]

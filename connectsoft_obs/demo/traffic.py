"""The client of the demo, which sends requests to the service and counts the responses."""

from __future__ import annotations

import random
import threading
from collections import Counter

import httpx


class Traffic:
    """Sends requests at a constant rate in a thread. `responses` counts them by method and status (0: no response).

    Args:
        url: base URL of the service.
        rate: requests per second.
        max_requests: number of requests after which the client stops; unlimited by default.
    """

    def __init__(self, url: str, rate: float, max_requests: int | None = None) -> None:
        self.responses: Counter[tuple[str, int]] = Counter()
        self.finished: threading.Event = threading.Event()
        self._url = url
        self._interval = 1 / rate
        self._max_requests = max_requests
        self._stop = threading.Event()
        self._random = random.Random(3)  # noqa: S311  not for cryptography
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sending requests."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=5) as client:
            while not self._stop.is_set() and (
                self._max_requests is None or self.responses.total() < self._max_requests
            ):
                method, path = self._next_request()
                try:
                    self.responses[method, client.request(method, path).status_code] += 1
                except httpx.TransportError:
                    self.responses[method, 0] += 1
                self._stop.wait(self._interval)
        self.finished.set()

    def _next_request(self) -> tuple[str, str]:
        draw = self._random.random()
        if draw < 0.55:
            return "GET", f"/orders/{self._random.randrange(1000)}"
        if draw < 0.75:
            return "POST", "/checkout"
        if draw < 0.97:
            return "GET", "/products"
        return "GET", "/nothing-here"

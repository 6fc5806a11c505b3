"""The customers of the demo: a client that asks the service for things, and counts what it asked."""

from __future__ import annotations

import random
import threading
from collections import Counter

import httpx


class Traffic:
    """A steady client in a thread. `sent` counts answers by method and status."""

    def __init__(self, url: str, rate: float, most: int | None = None) -> None:
        self.sent: Counter[tuple[str, int]] = Counter()
        self.done: threading.Event = threading.Event()
        self._url = url
        self._pause = 1 / rate
        self._most = most
        self._stop = threading.Event()
        self._dice = random.Random(3)  # noqa: S311  a demo
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=5) as client:
            while not self._stop.is_set() and (self._most is None or self.sent.total() < self._most):
                method, path = self._next()
                try:
                    self.sent[method, client.request(method, path).status_code] += 1
                except httpx.TransportError:
                    self.sent[method, 0] += 1
                self._stop.wait(self._pause)
        self.done.set()

    def _next(self) -> tuple[str, str]:
        chance = self._dice.random()
        if chance < 0.55:
            return "GET", f"/orders/{self._dice.randrange(1000)}"
        if chance < 0.75:
            return "POST", "/checkout"
        if chance < 0.97:
            return "GET", "/products"
        return "GET", "/nothing-here"

"""Message brokers, one of each per test session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import brokers
from support.brokers import Broker


@pytest.fixture(scope="session")
def redis() -> Iterator[Broker]:
    """A Redis server; each test uses its own queue."""
    with brokers.redis() as broker:
        yield broker


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Broker]:
    """A RabbitMQ server; each test uses its own queue."""
    with brokers.rabbitmq() as broker:
        yield broker

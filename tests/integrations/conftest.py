"""Real brokers, one of each for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import brokers
from support.brokers import Broker


@pytest.fixture(scope="session")
def redis() -> Iterator[Broker]:
    """A Redis; tests use queues of their own names."""
    with brokers.redis() as broker:
        yield broker


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Broker]:
    """A RabbitMQ; tests use queues of their own names."""
    with brokers.rabbitmq() as broker:
        yield broker

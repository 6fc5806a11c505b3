"""Message brokers that operators run, on free ports and in folders of their own; stopped at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.process import free_port, wait_for
from support.servers import program, running


@dataclass(frozen=True)
class Broker:
    """A running broker.

    Args:
        url: where clients connect to.
        port: the same port, for those who want it alone.
    """

    url: str
    port: int


@contextmanager
def redis() -> Iterator[Broker]:
    """An empty Redis that keeps nothing on disk."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with running(command, port):
            yield Broker(f"redis://127.0.0.1:{port}/0", port)


@contextmanager
def rabbitmq() -> Iterator[Broker]:
    """An empty RabbitMQ node; it takes some seconds to start."""
    port, distribution = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="rabbit") as folder:
        place = Path(folder)
        (place / "enabled_plugins").write_text("[].")
        env = {
            **os.environ,
            "HOME": folder,
            "RABBITMQ_NODENAME": f"obs{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(place / "log"),
            "RABBITMQ_PID_FILE": str(place / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
        }
        (place / "rabbitmq.conf").write_text(
            "vm_memory_high_watermark.relative = 0.8\ndisk_free_limit.absolute = 1MB\n"
        )
        try:
            with running([_rabbitmq_server()], port, 60, env=env, cwd=folder):
                wait_for(lambda: _speaks_amqp(port), 30, "RabbitMQ speaks AMQP")
                yield Broker(f"amqp://guest:guest@127.0.0.1:{port}//", port)
        finally:
            if (epmd := shutil.which("epmd")) is not None:  # a daemon that the node has started, on a port of its own
                wait_for(lambda: _killed(epmd, env), 10, "epmd ends")


def _killed(epmd: str, env: dict[str, str]) -> bool:
    """Whether the port mapper has ended; it refuses to while it takes the node for alive."""
    said = subprocess.run([epmd, "-kill"], env=env, capture_output=True, timeout=10, text=True)
    return "living nodes" not in said.stdout + said.stderr


def _rabbitmq_server() -> str:
    """The script behind Debian's, which would become another user and leave our folder unreadable."""
    direct = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    return direct if os.access(direct, os.X_OK) else program("rabbitmq-server")


@contextmanager
def azurite() -> Iterator[Broker]:
    """Microsoft's storage emulator, its queues alone; `url` is a connection string."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program("azurite-queue"), "--queueHost", "127.0.0.1", "--queuePort", str(port), "--location", folder,
            "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        ]  # fmt: skip
        with running(command, port, 30):
            # The account and key that every installation of the emulator has, and nothing else.
            account = "devstoreaccount1"
            key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
            yield Broker(
                f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};"
                f"QueueEndpoint=http://127.0.0.1:{port}/{account};",
                port,
            )


def _speaks_amqp(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        try:
            probe.connect(("127.0.0.1", port))
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return probe.recv(1) == b"\x01"
        except OSError:
            time.sleep(0.1)
            return False


def main() -> int:
    """Run a program with a broker: `python -m support.brokers rabbitmq python show.py`; its address is in BROKER."""
    kind, *command = sys.argv[1:]
    with {"redis": redis, "rabbitmq": rabbitmq}[kind]() as broker:
        return subprocess.run(command, env={**os.environ, "BROKER": broker.url}).returncode


if __name__ == "__main__":
    raise SystemExit(main())

"""Starts message brokers on free ports, with temporary directories, and stops them at the end."""

from __future__ import annotations

import os
import shutil
import signal
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
from support.servers import program_path, running_server


@dataclass(frozen=True)
class Broker:
    """A running broker.

    Args:
        url: The address for clients.
        port: The port of that address.
        process: The server process, which leads the process group of its children.
    """

    url: str
    port: int
    process: subprocess.Popen[bytes]

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend the broker: it accepts connections, because the kernel does, but never replies."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)


@contextmanager
def redis() -> Iterator[Broker]:
    """Run an empty Redis without persistence."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program_path("redis-server"),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ]
        with running_server(command, port) as process:
            yield Broker(f"redis://127.0.0.1:{port}/0", port, process)


@contextmanager
def rabbitmq() -> Iterator[Broker]:
    """Run an empty RabbitMQ node; the start takes several seconds."""
    port, distribution_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="rabbit") as folder:
        directory = Path(folder)
        (directory / "enabled_plugins").write_text("[].")
        env = {
            **os.environ,
            "HOME": folder,
            "RABBITMQ_NODENAME": f"obs{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
        }
        (directory / "rabbitmq.conf").write_text(
            "vm_memory_high_watermark.relative = 0.8\ndisk_free_limit.absolute = 1MB\n"
        )
        try:
            with running_server([_rabbitmq_server_path()], port, 60, env=env, cwd=folder) as process:
                wait_for(lambda: _accepts_amqp(port), 30, "RabbitMQ accepts AMQP")
                yield Broker(f"amqp://guest:guest@127.0.0.1:{port}//", port, process)
        finally:
            if (epmd := shutil.which("epmd")) is not None:  # a daemon that the node has started on another port
                wait_for(lambda: _stop_epmd(epmd, env), 10, "epmd ends")


def _stop_epmd(epmd: str, env: dict[str, str]) -> bool:
    """Stop the port mapper; False if it refuses because a node is still registered."""
    result = subprocess.run([epmd, "-kill"], env=env, capture_output=True, timeout=10, text=True)
    return "living nodes" not in result.stdout + result.stderr


def _rabbitmq_server_path() -> str:
    """The server script without Debian's wrapper, which changes the user, who cannot read the temporary directory."""
    script = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    return script if os.access(script, os.X_OK) else program_path("rabbitmq-server")


@contextmanager
def azurite() -> Iterator[Broker]:
    """Run the queue service of Azurite, Microsoft's storage emulator; `url` is a connection string."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program_path("azurite-queue"), "--queueHost", "127.0.0.1", "--queuePort", str(port), "--location", folder,
            "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        ]  # fmt: skip
        with running_server(command, port, 30) as process:
            # The well-known account and key of the emulator.
            account = "devstoreaccount1"
            key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
            yield Broker(
                f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};"
                f"QueueEndpoint=http://127.0.0.1:{port}/{account};",
                port,
                process,
            )


def _accepts_amqp(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(b"AMQP\x00\x00\x09\x01")
            return client.recv(1) == b"\x01"
        except OSError:
            time.sleep(0.1)
            return False


def main() -> int:
    """Run a program with a broker: `python -m support.brokers rabbitmq python show.py`; BROKER is its address."""
    kind, *command = sys.argv[1:]
    with {"redis": redis, "rabbitmq": rabbitmq}[kind]() as broker:
        return subprocess.run(command, env={**os.environ, "BROKER": broker.url}).returncode


if __name__ == "__main__":
    raise SystemExit(main())

"""`connectsoft-obs probe`, for exec probes and scripts: exit code 0 if healthy, 1 if not, 2 for invalid arguments."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.certificates import self_signed_certificate
from support.process import free_port, uvicorn

from connectsoft_obs.cli.probe import main


class ProbeHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _, _, target = self.path.partition("/")
        if target == "slow":
            for byte in b"HTTP/1.1 200 OK\r\n\r\n":
                time.sleep(0.2)
                self.wfile.write(bytes([byte]))
            return
        if target == "garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            return
        self.send_response(int(target.partition("?")[0]))
        self.send_header("location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ProbeHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("200", 0),
        ("200?verbose&exclude=a", 0),
        ("200#x", 0),
        ("204", 1),
        ("302", 1),
        ("404", 1),
        ("503", 1),
        ("garbage", 1),
    ],
)
def test_http_is_healthy_only_with_status_200(path: str, code: int, port: int) -> None:
    assert main([f"http://127.0.0.1:{port}/{path}"]) == code
    assert main([f"http://user:secret@localhost:{port}/{path}"]) == code


def test_http_timeout_includes_a_response_that_arrives_byte_by_byte(port: int) -> None:
    started = time.monotonic()
    assert main([f"http://127.0.0.1:{port}/slow", "--timeout", "0.5"]) == 1
    assert time.monotonic() - started < 2


def test_refused_connection_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    closed = free_port()
    assert main([f"http://127.0.0.1:{closed}/"]) == 1
    assert main([f"tcp://127.0.0.1:{closed}"]) == 1
    assert "ConnectionRefusedError" in capsys.readouterr().err


def test_tcp_is_healthy_if_the_port_accepts_a_connection(port: int) -> None:
    assert main([f"tcp://127.0.0.1:{port}"]) == 0
    assert main([f"tcp://[::ffff:127.0.0.1]:{port}"]) == 0 or not socket.has_ipv6
    assert main(["tcp://127.0.0.1"]) == 1


def test_https_certificate_is_not_verified(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ProbeHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed_certificate(tmp_path, 30))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert main([f"https://127.0.0.1:{server.server_port}/200"]) == 0
    assert main([f"https://127.0.0.1:{server.server_port}/503"]) == 1
    server.shutdown()
    server.server_close()


def test_file_is_healthy_until_its_maximum_age(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "alive"
    assert main([f"file:{path}"]) == 1
    path.touch()
    assert main([f"file:{path}"]) == 0
    assert main([f"file://{path}"]) == 0
    expired = time.time() - 100
    os.utime(path, (expired, expired))
    assert main([f"file:{path}"]) == 1
    assert "written 100 s ago" in capsys.readouterr().err
    assert main([f"file:{path}", "--max-age=120"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [[], ["http://a", "http://b"], ["ftp://a/"], ["a"], ["http://a", "--timeout"], ["http://a", "--timeout", "soon"],
     ["http://a", "--timeout=0"], ["http://a", "--color"], ["http://a", "--max-age", "nan"]],
)  # fmt: skip
def test_invalid_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage: connectsoft-obs probe" in capsys.readouterr().err


def test_help_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "usage: connectsoft-obs probe" in capsys.readouterr().out


def test_command_probes_a_real_service() -> None:
    with uvicorn("lifecycle:app") as service:
        service.wait_until_ready()
        command = [sys.executable, "-m", "connectsoft_obs", "probe", f"{service.url}/health/ready"]
        assert subprocess.run(command, timeout=10, check=False).returncode == 0
        service.stop()
        assert subprocess.run(command, timeout=10, check=False, capture_output=True).returncode == 1


def test_command_imports_no_large_module() -> None:
    code = (
        "import sys; from connectsoft_obs.__main__ import main; main(['probe', 'file:/missing']); "
        "print(*sys.modules, sep='\\n')"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=10)
    large_modules = {
        "ssl",
        "asyncio",
        "email",
        "http",
        "urllib",
        "json",
        "argparse",
        "opentelemetry",
        "structlog",
        "re",
    }
    loaded = {name.partition(".")[0] for name in completed.stdout.split()}
    interpreter = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules, sep='\\n')"], capture_output=True, text=True, check=True
    )
    assert not large_modules & loaded - {name.partition(".")[0] for name in interpreter.stdout.split()}

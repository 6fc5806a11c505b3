"""`connectsoft-obs probe`: a health probe for exec probes and scripts. It imports only `socket`, to start fast."""

from __future__ import annotations

import socket
import sys
import time

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = """usage: connectsoft-obs probe TARGET [--timeout SECONDS] [--max-age SECONDS]

TARGET is one of
  http://HOST:PORT/PATH   healthy if it answers 200 within --timeout seconds (1)
  https://HOST:PORT/PATH  the same; like the kubelet, the probe does not verify the certificate
  tcp://HOST:PORT         healthy if it accepts a connection within --timeout seconds (1)
  file:PATH               healthy if the file was written less than --max-age seconds ago (60)

exit code 0: healthy; 1: not healthy; 2: the arguments are not valid
"""
_PORTS = {"http": 80, "https": 443}


def main(arguments: Sequence[str]) -> int:
    """Probe one target and return the exit code."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(_USAGE)
        return 0
    options = {"--timeout": 1.0, "--max-age": 60.0}
    try:
        target = _parse(list(arguments), options)
        scheme, _, rest = target.partition(":")
        check = {"http": _http, "https": _http, "tcp": _tcp, "file": _file}[scheme]
    except (ValueError, IndexError, KeyError):
        sys.stderr.write(_USAGE)
        return 2
    try:
        problem = check(scheme, rest, options)
    except (OSError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        sys.stderr.write(f"{target}: {problem}\n")
    return 1 if problem else 0


def _parse(arguments: list[str], options: dict[str, float]) -> str:
    """Return the target, and set `options` from arguments such as `--timeout 2` or `--timeout=2`."""
    targets = []
    while arguments:
        argument = arguments.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            targets.append(argument)
            continue
        if name not in options:
            raise ValueError(name)
        options[name] = float(value if equals else arguments.pop(0))
        if not 0 < options[name] < 1e9:
            raise ValueError(name)
    (target,) = targets
    return target


def _connect(authority: str, default_port: int, timeout: float) -> tuple[socket.socket, str]:
    authority = authority.rpartition("@")[2]
    host, colon, port = authority.rpartition(":")
    if not colon or "]" in port:  # no port: the colon, if any, belongs to an IPv6 address
        host, port = authority, str(default_port)
    host = host.strip("[]")
    return socket.create_connection((host, int(port)), timeout), host


def _http(scheme: str, rest: str, options: dict[str, float]) -> str:
    deadline = time.monotonic() + options["--timeout"]
    authority, _, path = rest.removeprefix("//").partition("#")[0].partition("/")
    authority, _, query = authority.partition("?")
    path = f"/{path}?{query}" if query else f"/{path}"
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {authority.rpartition('@')[2]}\r\nConnection: close\r\n"
        "User-Agent: connectsoft-obs-probe\r\nAccept: */*\r\n\r\n"
    )
    connection, host = _connect(authority, _PORTS[scheme], options["--timeout"])
    with connection:
        if scheme == "https":
            connection = _start_tls(connection, host)
        connection.sendall(request.encode("ascii"))
        response = b""
        while b"\r\n" not in response and len(response) < 4096:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            if not (chunk := connection.recv(4096)):
                break
            response += chunk
        connection.close()
    status_line = response.partition(b"\r\n")[0].split()
    if len(status_line) < 2 or not status_line[0].startswith(b"HTTP/"):
        return "the response is not HTTP"
    status = status_line[1]
    return "" if status == b"200" else f"status {status.decode('ascii', 'replace')}"


def _start_tls(connection: socket.socket, host: str) -> socket.socket:
    import ssl  # imported on use: it takes 15 ms, which the other targets do not need

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=host)


def _tcp(_: str, rest: str, options: dict[str, float]) -> str:
    authority = rest.removeprefix("//").rstrip("/")
    if not authority.rpartition(":")[2].isdigit():
        return "a TCP target needs a port"
    _connect(authority, 0, options["--timeout"])[0].close()
    return ""


def _file(_: str, rest: str, options: dict[str, float]) -> str:
    from os import stat

    age = time.time() - stat(rest.removeprefix("//")).st_mtime
    return "" if age <= options["--max-age"] else f"written {age:.0f} s ago"

"""Classifies failed exports as temporary or permanent."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

from connectsoft_obs.export.tls import CertificateFileError
from connectsoft_obs.export.transport import ExportResult

RETRYABLE_STATUS = frozenset({429, 502, 503, 504})
"""Retryable HTTP status codes of the OTLP specification."""

_PROXY_STATUS = re.compile(r"Tunnel connection failed: (\d{3})")
_CLIENT_CERTIFICATE_ALERT = re.compile(
    r"ALERT_(?:NO_CERTIFICATE|CERTIFICATE_\w+|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)"
)
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + bytes(5)
"""Connection preface of a client and an empty SETTINGS frame (RFC 9113, section 3.4)."""


def refusal(reason: str, detail: str = "") -> ExportResult:
    """Result of an export that fails permanently."""
    return ExportResult(False, reason=reason, refused=True, detail=detail)


def result_of_error(error: Exception) -> ExportResult:
    """Result of an attempt that raised an exception of a socket, TLS or HTTP."""
    if isinstance(error, CertificateFileError):
        return refusal("certificate_file", str(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return refusal("tls_certificate", error.verify_message)
    if isinstance(error, ssl.SSLError) and (reason := tls_refusal(str(error))):
        return refusal(reason)
    if isinstance(error, OSError) and (match := _PROXY_STATUS.match(str(error))):
        status = int(match[1])
        return ExportResult(
            False,
            retry=status in RETRYABLE_STATUS,
            reason=f"proxy_{status}",
            refused=status not in RETRYABLE_STATUS,
        )
    return ExportResult(False, retry=True, reason=_reason(error))


def tls_refusal(text: str) -> str:
    """Reason of a permanent TLS failure from the text of OpenSSL or BoringSSL; "" for any other failure."""
    if "CERTIFICATE_VERIFY_FAILED" in text or "Hostname Verification" in text or "not in peer certificate" in text:
        return "tls_certificate"
    if _CLIENT_CERTIFICATE_ALERT.search(text):
        return "tls_client_certificate"
    return "plaintext_port" if "WRONG_VERSION_NUMBER" in text else ""


def detect_wrong_port(host: str, port: int, timeout: float, *, accepts_http2: bool) -> str:
    """Reason `grpc_port` or `tls_port` if the port speaks that protocol; "" if unknown.

    A server closes a connection with the wrong protocol without a response, and so does a collector that restarts.

    Args:
        host: host of the collector.
        port: port of the collector.
        timeout: seconds for each of two connections.
        accepts_http2: the exporter speaks HTTP/2 itself, so that a port for it is not wrong.
    """
    with suppress(OSError):
        if not accepts_http2:
            with socket.create_connection((host, port), timeout) as connection:
                connection.sendall(_HTTP2_PREFACE)
                frame = connection.recv(9)
                if len(frame) == 9 and frame[3] == 4 and not any(frame[5:]):  # SETTINGS frame of connection 0
                    return "grpc_port"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only a handshake; nothing is sent
    try:
        with (
            socket.create_connection((host, port), timeout) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return "tls_port"
    except ssl.SSLError as error:
        return "tls_port" if "ALERT" in str(error) else ""
    except (OSError, ValueError):
        return ""


def redirect_target(location: str | None) -> str:
    """URL of a redirect without user name, password and query."""
    with suppress(ValueError):
        parts = urlsplit(location or "")
        if parts.hostname:
            port = f":{parts.port}" if parts.port else ""
            return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, socket.gaierror):
        return "dns"
    if isinstance(error, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        return "closed"
    if isinstance(error, http.client.HTTPException):
        return "garbage"
    return "network" if isinstance(error, OSError) else type(error).__name__

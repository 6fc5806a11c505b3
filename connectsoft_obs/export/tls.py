"""TLS contexts of exporters, built once and again if a certificate file changes.

Building a context with the certificates of the system takes 20 to 30 ms of CPU time. If each connection attempt built one,
a collector whose certificate does not verify would double the latency of requests (tests/bench/collector_faults.py).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Generic, TypeVar

from connectsoft_obs.export.destination import Destination

T = TypeVar("T")
_FileState = tuple[int, int, int] | None


class CertificateFileError(Exception):
    """A certificate or key file cannot be used. The message names the variable, the file and the cause."""


class TlsCache(Generic[T]):
    """Object that is built from the certificate files of a destination; used by one thread.

    Args:
        destination: the destination with the names of the files.
        build: builds the object; called again only if a file has changed.
    """

    def __init__(self, destination: Destination, build: Callable[[], T]) -> None:
        system = ssl.get_default_verify_paths()
        self._paths = (
            destination.certificate or system.cafile,
            destination.certificate or system.capath,
            destination.client_certificate,
            destination.client_key,
        )
        self._build = build
        self._state: tuple[_FileState, ...] = ()
        self._value: T | None = None
        self._error: str = ""

    def get(self) -> T:
        """The object for the current files.

        Raises:
            CertificateFileError: a file is missing, unreadable or not a certificate.
        """
        state = tuple(_file_state(path) for path in self._paths)
        if state != self._state or (self._value is None and not self._error):
            self._state, self._value, self._error = state, None, ""
            try:
                self._value = self._build()
            except CertificateFileError as error:
                self._error = str(error)
        if self._value is None:
            raise CertificateFileError(self._error)
        return self._value


def create_context(destination: Destination) -> ssl.SSLContext:
    """Create a TLS context that verifies the collector, with the client certificate if there is one.

    Raises:
        CertificateFileError: a file is missing, unreadable or not a certificate.
    """
    try:
        context = ssl.create_default_context(cafile=destination.certificate)
    except OSError as error:
        raise _file_error("OTEL_EXPORTER_OTLP_CERTIFICATE", destination.certificate, error) from error
    if destination.client_certificate:
        try:
            context.load_cert_chain(destination.client_certificate, destination.client_key)
        except OSError as error:
            key = destination.client_key
            if key and not (os.path.isfile(key) and os.access(key, os.R_OK)):
                raise _file_error("OTEL_EXPORTER_OTLP_CLIENT_KEY", key, error) from error
            raise _file_error("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", destination.client_certificate, error) from error
    return context


def _file_error(variable: str, path: str | None, error: OSError) -> CertificateFileError:
    cause = "not a valid PEM file" if isinstance(error, ssl.SSLError) else error.strerror or type(error).__name__
    return CertificateFileError(f"{variable}: {path}: {cause}")


def _file_state(path: str | None) -> _FileState:
    """Identity of the content of a file; None if there is no file."""
    if not path:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

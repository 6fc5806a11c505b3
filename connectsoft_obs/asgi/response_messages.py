"""Messages of an ASGI response: additional headers, and the size of files that the server sends itself."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from connectsoft_obs.asgi.types import Message

FILE_MESSAGES: Final = ("http.response.pathsend", "http.response.zerocopysend")
"""Messages of the ASGI extensions for files, which name a file instead of carrying its content."""


def file_size(message: Message) -> int:
    """Return the bytes that a message of the ASGI extensions for files sends, or 0 if they cannot be determined."""
    with suppress(Exception):  # any object may be in the message
        if "path" in message:
            return os.stat(message["path"]).st_size
        if message.get("count") is not None:
            return int(message["count"])
        descriptor, offset = message["file"].fileno(), message.get("offset")
        return os.fstat(descriptor).st_size - (os.lseek(descriptor, 0, os.SEEK_CUR) if offset is None else int(offset))
    return 0


def with_header(message: Message, name: bytes, value: bytes) -> Message:
    """Return a copy of a response start message with one more header. The application's message is not changed."""
    copy: MutableMapping[str, Any] = dict(message)
    copy["headers"] = [*message.get("headers", ()), (name, value)]
    return copy


def with_connection_close(message: Message) -> Message:
    """Return a response start message with `Connection: close`, so that the client's next request uses a new connection.

    A message that has a `Connection` header, and the handshake of a WebSocket, are returned unchanged.
    """
    if message["type"] != "http.response.start":
        return message
    if any(name.lower() == b"connection" for name, _ in message.get("headers", ())):
        return message
    return with_header(message, b"connection", b"close")

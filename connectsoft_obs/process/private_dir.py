"""A directory that only the current user can access, inside a directory that other users share."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def private_dir(parent: Path) -> Path:
    """Create or reuse `connectsoft-obs-<uid>` in `parent`, with mode 0700.

    Where the platform has no user ids (Windows), the temporary directory belongs to the user already, and ownership
    is not checked.

    Raises:
        PermissionError: the directory belongs to another user, is a symbolic link or is open to other users.
        OSError: it cannot be created.
    """
    has_users = hasattr(os, "geteuid")
    user = os.geteuid() if has_users else 0
    directory = parent / f"connectsoft-obs-{user if has_users else 'user'}"
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    status = directory.lstat()
    private = stat.S_ISDIR(status.st_mode) and (not has_users or (status.st_uid == user and not status.st_mode & 0o077))
    if not private:
        message = f"{directory} is not a private directory of this user; remove it or set another directory"
        raise PermissionError(message)
    return directory

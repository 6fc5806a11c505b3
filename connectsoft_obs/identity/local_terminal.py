"""Detects a process that a developer has started in a terminal of the own machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from connectsoft_obs.identity.platforms import Platform, detect
from connectsoft_obs.process.process_info import read_proc_stat

_NOT_LOCAL = (
    "CI", "TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION",  # pipelines
    "SSH_CONNECTION", "SSH_TTY",  # a terminal of a server
    "container", "K_SERVICE", "DYNO", "AWS_EXECUTION_ENV", "ECS_CONTAINER_METADATA_URI_V4",
)  # fmt: skip
"""Variables of pipelines, remote shells, container runtimes (`container`: podman, systemd-nspawn) and platforms."""

_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
"""Files that Docker and podman create."""

_STDOUT, _STDERR = 1, 2
_TERMINAL_FIELD = 4
"""Index of the controlling terminal in the fields of `read_proc_stat`; 0 is none."""


def is_local_terminal(environ: Mapping[str, str]) -> bool:
    """Whether standard output or standard error is a terminal, and nothing indicates a server, container or pipeline."""
    if not (os.isatty(_STDOUT) or os.isatty(_STDERR)) or any(environ.get(name) for name in _NOT_LOCAL):
        return False
    if detect(environ).platform is not Platform.LOCAL:
        return False
    return not (any(map(os.path.exists, _CONTAINER_FILES)) and _main_process_has_terminal())


def _main_process_has_terminal() -> bool:
    """Whether the container was started with a terminal (`docker run -t`). In a development container it was not."""
    try:
        return int(read_proc_stat(1)[_TERMINAL_FIELD]) != 0
    except (OSError, LookupError, ValueError):
        return True

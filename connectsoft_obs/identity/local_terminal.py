"""Detects a process that a developer has started in a terminal of the local machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from connectsoft_obs.identity.platforms import Platform, detect

_NOT_LOCAL = (
    "CI", "TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION",  # pipelines
    "SSH_CONNECTION", "SSH_TTY",  # a terminal of a server
    "container", "K_SERVICE", "DYNO", "AWS_EXECUTION_ENV", "ECS_CONTAINER_METADATA_URI_V4",
)  # fmt: skip
"""Variables of pipelines, remote shells, container runtimes (`container`: podman, systemd-nspawn) and platforms."""

_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
"""Files that Docker and podman create."""

_STDOUT, _STDERR = 1, 2


def is_local_terminal(environ: Mapping[str, str]) -> bool:
    """Whether standard output or standard error is a terminal, and nothing indicates a server, container or pipeline."""
    if not (os.isatty(_STDOUT) or os.isatty(_STDERR)) or any(environ.get(name) for name in _NOT_LOCAL):
        return False
    # `docker run -t` and `docker exec -t` give a service of production a terminal too.
    return detect(environ).platform is Platform.LOCAL and not any(map(os.path.exists, _CONTAINER_FILES))

"""Ready-made checks of what the process lives on: disk, memory, certificates.

obs.readiness_check("scratch-space")(machine.disk("/tmp", least=200_000_000))
obs.readiness_check("tls-certificate", critical=False, interval=3600)(machine.certificate("/certs/tls.crt"))
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import Function
from connectsoft_obs.health.dependency_checks import UnhealthyError

_UNLIMITED = 1 << 60  # what cgroup v1 has instead of a word


def disk(path: str = "/", *, least: int = 100_000_000) -> Function:
    """Free bytes on the file system of `path`; fails below `least`."""

    def look() -> None:
        free = shutil.disk_usage(path).free
        if free < least:
            raise UnhealthyError(f"{free:,} bytes free on {path}, less than {least:,}")

    return look


def memory(*, most: float = 0.95, cgroup: str = "/sys/fs/cgroup") -> Function:
    """The container's working set as the kubelet counts it; fails above the share `most` of its limit.

    Passes where there is no limit, and outside Linux. As a liveness check it restarts the process before the kernel
    kills it in the middle of its requests.

    Args:
        most: share of the limit, from 0 to 1.
        cgroup: where control groups (v1 or v2) are mounted.

    Raises:
        ConfigurationError: not a share.
    """
    if not 0 < most <= 1:
        raise ConfigurationError(f"memory(most={most!r})", "it is not a share", "Give a number from 0 to 1.")
    root = Path(cgroup)

    def look() -> None:
        for limit_file, used_file, stat_file, inactive in (
            ("memory.max", "memory.current", "memory.stat", "inactive_file"),
            (
                "memory/memory.limit_in_bytes",
                "memory/memory.usage_in_bytes",
                "memory/memory.stat",
                "total_inactive_file",
            ),
        ):
            limit = _number(root / limit_file)
            used = _number(root / used_file)
            if limit is None or used is None or limit >= _UNLIMITED:
                continue
            working = max(used - _row(root / stat_file, inactive), 0)
            if working > limit * most:
                raise UnhealthyError(f"{working:,} bytes used of {limit:,}, more than {most:.0%}")

    return look


def certificate(path: str, *, days: float = 14.0) -> Function:
    """The first certificate of a PEM file; fails when it ends within `days`. Reads the file each time.

    Needs the package `cryptography`.

    Raises:
        ConfigurationError: `cryptography` is not installed.
    """
    try:
        from cryptography import x509
    except ImportError:
        raise ConfigurationError(
            f"certificate({path!r})",
            "the package cryptography is not installed",
            "Install connectsoft-obs[certificate].",
        ) from None

    def look() -> None:
        ends = x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
        left = (ends - datetime.now(UTC)).total_seconds() / 86400
        if left < days:
            raise UnhealthyError(f"{path} ends on {ends:%Y-%m-%d}, in {left:.1f} days")

    return look


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _row(path: Path, name: str) -> int:
    try:
        rows = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(row.split()[1]) for row in rows if row.startswith(f"{name} ")), 0)

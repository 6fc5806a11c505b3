"""Built-in checks of the host: disk space, memory, certificate expiry.

obs.readiness_check("scratch-space")(host_checks.disk("/tmp", min_free_bytes=200_000_000))
obs.readiness_check("tls-certificate", critical=False, interval=3600)(host_checks.certificate("/certs/tls.crt"))
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import CheckFunction
from connectsoft_obs.health.dependency_checks import UnhealthyError

_UNLIMITED = 1 << 60  # cgroup v1 reports a huge number where there is no limit

_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Limit, usage and statistics files of cgroup v2 and v1, and the statistic of inactive page cache."""


def disk(path: str = "/", *, min_free_bytes: int = 100_000_000) -> CheckFunction:
    """Check the free space of the file system of `path`; fails below `min_free_bytes`."""

    def check() -> None:
        free = shutil.disk_usage(path).free
        if free < min_free_bytes:
            raise UnhealthyError(f"{free:,} bytes free on {path}, less than {min_free_bytes:,}")

    return check


def memory(*, max_share: float = 0.95, cgroup: str = "/sys/fs/cgroup") -> CheckFunction:
    """Check the working set of the container, as the kubelet computes it; fails above a share of the memory limit.

    Passes without a limit, and outside Linux. As a liveness check it restarts the process before the kernel kills it
    during requests.

    Args:
        max_share: maximum share of the limit, greater than 0 and at most 1.
        cgroup: mount point of control groups (v1 or v2).

    Raises:
        ConfigurationError: `max_share` is out of range.
    """
    if not 0 < max_share <= 1:
        raise ConfigurationError(
            f"memory(max_share={max_share!r})",
            "it is not a share of the memory limit",
            "Pass a number greater than 0 and at most 1.",
        )
    root = Path(cgroup)

    def check() -> None:
        for limit_file, usage_file, stat_file, inactive_name in _CGROUP_FILES:
            limit = _read_number(root / limit_file)
            usage = _read_number(root / usage_file)
            if limit is None or usage is None or limit >= _UNLIMITED:
                continue
            working_set = max(usage - _read_statistic(root / stat_file, inactive_name), 0)
            if working_set > limit * max_share:
                raise UnhealthyError(f"{working_set:,} bytes used of {limit:,}, more than {max_share:.0%}")

    return check


def certificate(path: str, *, days: float = 14.0) -> CheckFunction:
    """Check the first certificate of a PEM file; fails if it expires within `days`. Each run reads the file.

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

    def check() -> None:
        expiry = x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
        remaining_days = (expiry - datetime.now(UTC)).total_seconds() / 86400
        if remaining_days < days:
            raise UnhealthyError(f"{path} expires on {expiry:%Y-%m-%d}, in {remaining_days:.1f} days")

    return check


def _read_number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _read_statistic(path: Path, name: str) -> int:
    try:
        rows = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(row.split()[1]) for row in rows if row.startswith(f"{name} ")), 0)

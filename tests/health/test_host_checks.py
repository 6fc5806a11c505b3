"""Checks of disk space, memory and certificates: measurements and limits."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from support.certificates import self_signed_certificate

import connectsoft_obs as obs
from connectsoft_obs.health import host_checks
from connectsoft_obs.health.dependency_checks import UnhealthyError

MIB = 1024 * 1024


def write_files(folder: Path, **files: str) -> str:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(folder)


def test_disk_space_below_the_minimum_fails(tmp_path: Path) -> None:
    host_checks.disk(str(tmp_path), min_free_bytes=1)()
    with pytest.raises(UnhealthyError, match=r"[\d,]+ bytes free on .*, less than 1,000,000,000,000,000,000"):
        host_checks.disk(str(tmp_path), min_free_bytes=10**18)()
    with pytest.raises(FileNotFoundError):
        host_checks.disk(str(tmp_path / "missing"))()


@pytest.mark.parametrize(("used", "cache", "fails"), [(90, 0, False), (96, 0, True), (99, 50, False), (100, 1, True)])
def test_memory_uses_the_working_set_of_the_kubelet(used: int, cache: int, fails: bool, tmp_path: Path) -> None:
    root = write_files(
        tmp_path,
        memory_dot_max=f"{100 * MIB}\n",
        memory_dot_current=f"{used * MIB}\n",
        memory_dot_stat=f"anon 1\ninactive_file {cache * MIB}\nactive_file 7\n",
    )
    check = host_checks.memory(max_share=0.95, cgroup=root)
    if fails:
        with pytest.raises(UnhealthyError, match="more than 95%"):
            check()
    else:
        check()


def test_memory_reads_cgroup_v1(tmp_path: Path) -> None:
    root = write_files(
        tmp_path,
        memory__memory_dot_limit_in_bytes=f"{100 * MIB}\n",
        memory__memory_dot_usage_in_bytes=f"{99 * MIB}\n",
        memory__memory_dot_stat="total_inactive_file 0\n",
    )
    with pytest.raises(UnhealthyError):
        host_checks.memory(cgroup=root)()


def test_memory_without_a_limit_passes(tmp_path: Path) -> None:
    host_checks.memory(cgroup=write_files(tmp_path, memory_dot_max="max\n", memory_dot_current="1\n"))()
    unlimited = {"memory__memory_dot_limit_in_bytes": str(2**63 - 4096), "memory__memory_dot_usage_in_bytes": "1"}
    host_checks.memory(cgroup=write_files(tmp_path / "v1", **unlimited))()
    host_checks.memory(cgroup=str(tmp_path / "missing"))()
    host_checks.memory()()


def test_invalid_share_is_rejected() -> None:
    for share in (0, 1.5, -1):
        with pytest.raises(obs.ConfigurationError, match="not a share"):
            host_checks.memory(max_share=share)


def test_certificate_that_expires_soon_fails(tmp_path: Path) -> None:
    host_checks.certificate(str(self_signed_certificate(tmp_path, 30)), days=14)()
    with pytest.raises(UnhealthyError, match=r"in 10\.0 days"):
        host_checks.certificate(str(self_signed_certificate(tmp_path, 10)), days=14)()
    with pytest.raises(UnhealthyError, match=r"in -0\.5 days"):
        host_checks.certificate(str(self_signed_certificate(tmp_path, -0.5)), days=14)()


def test_certificate_check_without_cryptography_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    original_import = builtins.__import__

    def import_without_cryptography(name: str, *arguments: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return original_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", import_without_cryptography)
    with pytest.raises(obs.ConfigurationError, match=r"Install connectsoft-obs\[certificate\]"):
        host_checks.certificate("/tmp/x")

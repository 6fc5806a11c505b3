"""The shared directory of a worker group: selection, isolation of services and starts, and removal."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.exposition import scrape
from support.forked_workers import ForkedProcess
from support.process import APPS, Service, free_port, gunicorn, uvicorn

from connectsoft_obs.process.process_info import process_start_time
from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.signals.metrics.multiprocess import candidate_directories, find_or_create_directory

WAIT_FOR_SIGNAL = "import signal; print('up', flush=True); signal.pause()"


class Supervisor:
    """A process that only waits."""

    def __enter__(self) -> int:
        self._process = subprocess.Popen([sys.executable, "-c", WAIT_FOR_SIGNAL], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_directory_is_specific_to_service_and_supervisor(tmp_path: Path) -> None:
    with Supervisor() as pid, Supervisor() as other_pid:
        directory = find_or_create_directory("shop", pid, [tmp_path])
        assert directory is not None
        assert find_or_create_directory("shop", pid, [tmp_path]) == directory
        others = {
            find_or_create_directory("bank", pid, [tmp_path]),
            find_or_create_directory("shop", other_pid, [tmp_path]),
            find_or_create_directory("Shop", pid, [tmp_path]),
        }
        assert len({directory, *others} - {None}) == 4
        assert json.loads((directory / "supervisor.json").read_text())["pid"] == pid


def test_reused_pid_gets_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.signals.metrics.multiprocess import directory as directory_module

    with Supervisor() as pid:
        first = find_or_create_directory("shop", pid, [tmp_path])
        start_time = process_start_time(pid)
        monkeypatch.setattr(
            directory_module,
            "process_start_time",
            lambda value: f"{start_time}1" if value == pid else process_start_time(value),
        )
        second = find_or_create_directory("shop", pid, [tmp_path])
    assert first is not None
    assert second is not None
    assert first != second
    assert not first.exists(), "the first start has ended"


def test_directory_of_an_ended_start_is_removed_by_the_next_start(tmp_path: Path) -> None:
    with Supervisor() as ended_pid:
        ended = find_or_create_directory("shop", ended_pid, [tmp_path])
        assert ended is not None
        (ended / "1-dead.cells").write_bytes(b"")
    with Supervisor() as running_pid:
        running = find_or_create_directory("bank", running_pid, [tmp_path])
        with Supervisor() as pid:
            assert find_or_create_directory("shop", pid, [tmp_path])
    assert not ended.exists()
    assert running is not None
    assert running.exists(), "its supervisor was running"


def test_directory_is_kept_while_a_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    metrics = MetricRegistry(2000)
    with Supervisor() as pid:
        assert metrics.join_workers("shop", pid, str(tmp_path))
    assert metrics.worker_group is not None
    with Supervisor() as other_pid:
        find_or_create_directory("shop", other_pid, [tmp_path])
    assert metrics.worker_group.directory.exists()
    metrics.leave_workers()
    with Supervisor() as other_pid:
        find_or_create_directory("shop", other_pid, [tmp_path])
    assert not metrics.worker_group.directory.exists()


def test_directory_of_another_pid_namespace_is_kept_for_a_day(tmp_path: Path) -> None:
    """Containers of a pod can share /dev/shm but not pids; a supervisor in another container may be running."""
    with Supervisor() as pid:
        directory = find_or_create_directory("shop", pid, [tmp_path])
        assert directory is not None
        identity = json.loads((directory / "supervisor.json").read_text())
        (directory / "supervisor.json").write_text(json.dumps({**identity, "boot_id": "another boot pid:[1]"}))
    with Supervisor() as pid:
        find_or_create_directory("bank", pid, [tmp_path])
        assert directory.exists()
        os.utime(directory, (1, 1))
        find_or_create_directory("bank", pid, [tmp_path])
        assert not directory.exists()


def test_directory_that_other_users_can_write_to_is_not_used(tmp_path: Path) -> None:
    writable, link, file = tmp_path / "writable", tmp_path / "link", tmp_path / "file"
    name = f"connectsoft-obs-{os.geteuid()}"
    for directory in (writable, link, file):
        directory.mkdir()
    (writable / name).mkdir()
    (writable / name).chmod(0o777)
    (link / name).symlink_to(tmp_path)
    (file / name).write_text("")
    with Supervisor() as pid:
        assert find_or_create_directory("shop", pid, [writable, link, file]) is None
        private = tmp_path / "private"
        private.mkdir()
        selected = find_or_create_directory("shop", pid, [writable, link, file, private])
        assert selected is not None
        assert selected.is_relative_to(private)
        assert stat.S_IMODE(selected.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner")
def test_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    directory = tmp_path / f"connectsoft-obs-{os.geteuid()}"
    directory.mkdir(0o700)
    os.chown(directory, 12345, 12345)
    with Supervisor() as pid:
        assert find_or_create_directory("shop", pid, [tmp_path]) is None


def test_next_candidate_is_used_if_the_first_is_not_writable(tmp_path: Path) -> None:
    read_only = Path("/proc")  # not writable, even by root
    with Supervisor() as pid:
        selected = find_or_create_directory("shop", pid, [read_only, tmp_path])
        assert selected is not None
        assert selected.is_relative_to(tmp_path)
        assert find_or_create_directory("shop", pid, [read_only]) is None


def test_existing_directory_is_preferred_to_a_better_candidate(tmp_path: Path) -> None:
    first_choice, second_choice = tmp_path / "first", tmp_path / "second"
    second_choice.mkdir()
    with Supervisor() as pid:
        first = find_or_create_directory("shop", pid, [first_choice, second_choice])
        first_choice.mkdir()
        assert find_or_create_directory("shop", pid, [first_choice, second_choice]) == first


def test_shared_memory_is_preferred_to_a_disk() -> None:
    candidates = candidate_directories()
    assert candidates[-1] == Path(os.environ.get("TMPDIR", "/tmp"))
    if Path("/dev/shm").is_dir():
        assert candidates[0] == Path("/dev/shm")


def test_ended_supervisor_has_no_directory(tmp_path: Path) -> None:
    process = ForkedProcess(lambda: None)
    assert process_start_time(process.pid) is None
    assert find_or_create_directory("shop", process.pid, [tmp_path]) is None


def test_single_process_creates_no_directory(tmp_path: Path) -> None:
    with uvicorn("shop:app", env={"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}) as service:
        service.wait_until_ready()
        scrape(service.url)
        assert list(tmp_path.iterdir()) == []


def test_two_services_started_from_one_shell_are_separate(tmp_path: Path) -> None:
    env = {"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}
    with gunicorn("shop:app", env=env) as shop, gunicorn("orders:app", "--preload", env=env) as orders:
        shop.wait_until_ready()
        orders.wait_until_ready()
        for _ in range(10):
            httpx.get(f"{shop.url}/order")
        for _ in range(20):
            httpx.get(f"{orders.url}/items/1")
        total = "http_server_request_duration_seconds_count"
        assert scrape(shop.url).value(total) == 10
        assert scrape(orders.url).value(total) == 20
        [root] = tmp_path.iterdir()
        assert len(list(root.iterdir())) == 2
        # The next start begins at zero and removes the directory of the previous start.
        shop.stop()
        with gunicorn("shop:app", env=env) as restarted:
            restarted.wait_until_ready()
            assert scrape(restarted.url).value(total) == 0
            assert len(list(root.iterdir())) == 2


def test_workers_without_a_directory_warn_once() -> None:
    with gunicorn("shop:app", env={"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": "/proc"}) as service:
        service.wait_until_ready()
        scrape(service.url)
        scrape(service.url)
        warnings = [line for line in service.json_lines if "worker metrics cannot be aggregated" in line["message"]]
        service.stop()
    assert 1 <= len(warnings) <= 2, "one warning per worker"
    assert warnings[0]["severity"] == "WARN"
    assert warnings[0]["connectsoft.obs.setting"] == "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"
    assert service.process.returncode == 0


def test_shared_memory_is_used_on_a_read_only_root_file_system() -> None:
    """As in a container with readOnlyRootFilesystem: only /dev/shm is writable."""
    unshare = ["unshare", "--mount", "bash", "-c"]
    read_only = "mount --make-rprivate / && mount -o remount,ro,bind / /"
    if subprocess.run([*unshare, read_only], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not permitted")
    port = free_port()
    server = [sys.executable, "-m", "uvicorn", "shop:app", "--app-dir", str(APPS), "--port", str(port)]
    script = f'{read_only} && ! touch /tmp/probe && exec "$@"'
    with Service([*unshare, script, "--", *server, "--workers", "2"], port) as service:
        service.wait_until_ready()
        pids = {httpx.get(f"{service.url}/order").json()["pid"] for _ in range(40)}
        assert scrape(service.url).value("orders_placed_total") == 40
        assert scrape(service.url).value("orders_placed_total") == 40
        assert "worker metrics cannot be aggregated" not in service.output
        [directory] = Path("/dev/shm").glob(f"connectsoft-obs-*/shop-*/{min(pids)}-*.cells")
        assert directory.parent.name.startswith("shop-")

"""Where workers meet: found by each alone, mixed up with nobody, cleaned up after the last start."""

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

from connectsoft_obs.process.identity import process_start_time
from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.signals.metrics.multiprocess import candidate_dirs, find_or_create

CODE = "import signal; print('up', flush=True); signal.pause()"


class Supervisor:
    """A process that does nothing but be there."""

    def __enter__(self) -> int:
        self._process = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_workers_of_one_start_come_to_the_same_place_and_others_do_not(tmp_path: Path) -> None:
    with Supervisor() as one, Supervisor() as two:
        place = find_or_create("shop", one, [tmp_path])
        assert place is not None
        assert find_or_create("shop", one, [tmp_path]) == place
        others = {
            find_or_create("bank", one, [tmp_path]),
            find_or_create("shop", two, [tmp_path]),
            find_or_create("Shop", one, [tmp_path]),
        }
        assert len({place, *others} - {None}) == 4
        assert json.loads((place / "supervisor.json").read_text())["pid"] == one


def test_a_pid_that_is_used_again_is_another_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.signals.metrics.multiprocess import directory

    with Supervisor() as pid:
        first = find_or_create("shop", pid, [tmp_path])
        real = process_start_time(pid)
        monkeypatch.setattr(
            directory, "process_start_time", lambda asked: f"{real}1" if asked == pid else process_start_time(asked)
        )
        second = find_or_create("shop", pid, [tmp_path])
    assert first is not None
    assert second is not None
    assert first != second
    assert not first.exists(), "and the first start is over"


def test_a_start_that_is_over_is_removed_by_the_next(tmp_path: Path) -> None:
    with Supervisor() as gone:
        over = find_or_create("shop", gone, [tmp_path])
        assert over is not None
        (over / "1-dead.cells").write_bytes(b"")
    with Supervisor() as living:
        busy = find_or_create("bank", living, [tmp_path])
        with Supervisor() as pid:
            assert find_or_create("shop", pid, [tmp_path])
    assert not over.exists()
    assert busy is not None
    assert busy.exists(), "its supervisor was there"


def test_a_worker_that_outlives_its_supervisor_keeps_its_place(tmp_path: Path) -> None:
    metrics = MetricRegistry(2000)
    with Supervisor() as pid:
        assert metrics.join_workers("shop", pid, str(tmp_path))
    assert metrics.workers is not None
    with Supervisor() as another:
        find_or_create("shop", another, [tmp_path])
    assert metrics.workers.directory.exists()
    metrics.leave()
    with Supervisor() as another:
        find_or_create("shop", another, [tmp_path])
    assert not metrics.workers.directory.exists()


def test_another_namespace_is_left_alone_for_a_day(tmp_path: Path) -> None:
    """Containers of one pod share /dev/shm but not their pids: a supervisor that cannot be seen is not a dead one."""
    with Supervisor() as pid:
        place = find_or_create("shop", pid, [tmp_path])
        assert place is not None
        who = json.loads((place / "supervisor.json").read_text())
        (place / "supervisor.json").write_text(json.dumps({**who, "machine": "another boot pid:[1]"}))
    with Supervisor() as pid:
        find_or_create("bank", pid, [tmp_path])
        assert place.exists()
        os.utime(place, (1, 1))
        find_or_create("bank", pid, [tmp_path])
        assert not place.exists()


def test_a_folder_that_somebody_else_could_write_to_is_not_used(tmp_path: Path) -> None:
    open_to_all, link, file = tmp_path / "open", tmp_path / "link", tmp_path / "file"
    name = f"connectsoft-obs-{os.geteuid()}"
    for place in (open_to_all, link, file):
        place.mkdir()
    (open_to_all / name).mkdir()
    (open_to_all / name).chmod(0o777)
    (link / name).symlink_to(tmp_path)
    (file / name).write_text("")
    with Supervisor() as pid:
        assert find_or_create("shop", pid, [open_to_all, link, file]) is None
        good = tmp_path / "good"
        good.mkdir()
        found = find_or_create("shop", pid, [open_to_all, link, file, good])
        assert found is not None
        assert found.is_relative_to(good)
        assert stat.S_IMODE(found.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    place = tmp_path / f"connectsoft-obs-{os.geteuid()}"
    place.mkdir(0o700)
    os.chown(place, 12345, 12345)
    with Supervisor() as pid:
        assert find_or_create("shop", pid, [tmp_path]) is None


def test_the_next_place_is_taken_where_the_first_cannot_be_written_to(tmp_path: Path) -> None:
    read_only = Path("/proc")  # writable by nobody, root included
    with Supervisor() as pid:
        found = find_or_create("shop", pid, [read_only, tmp_path])
        assert found is not None
        assert found.is_relative_to(tmp_path)
        assert find_or_create("shop", pid, [read_only]) is None


def test_workers_agree_even_when_a_better_place_turns_up_later(tmp_path: Path) -> None:
    better, worse = tmp_path / "better", tmp_path / "worse"
    worse.mkdir()
    with Supervisor() as pid:
        first = find_or_create("shop", pid, [better, worse])
        better.mkdir()
        assert find_or_create("shop", pid, [better, worse]) == first


def test_memory_is_preferred_to_a_disk() -> None:
    found = candidate_dirs()
    assert found[-1] == Path(os.environ.get("TMPDIR", "/tmp"))
    if Path("/dev/shm").is_dir():
        assert found[0] == Path("/dev/shm")


def test_a_process_that_is_gone_supervises_nobody(tmp_path: Path) -> None:
    child = ForkedProcess(lambda: None)
    assert process_start_time(child.pid) is None
    assert find_or_create("shop", child.pid, [tmp_path]) is None


def test_a_single_process_shares_nothing(tmp_path: Path) -> None:
    with uvicorn("shop:app", env={"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}) as service:
        service.wait_until_ready()
        scrape(service.url)
        assert list(tmp_path.iterdir()) == []


def test_two_services_started_from_one_shell_do_not_mix(tmp_path: Path) -> None:
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
        # The next start begins anew, and removes what the one before has left.
        shop.stop()
        with gunicorn("shop:app", env=env) as again:
            again.wait_until_ready()
            assert scrape(again.url).value(total) == 0
            assert len(list(root.iterdir())) == 2


def test_without_a_place_each_worker_shows_its_own_and_says_so_once() -> None:
    with gunicorn("shop:app", env={"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": "/proc"}) as service:
        service.wait_until_ready()
        scrape(service.url)
        scrape(service.url)
        warnings = [line for line in service.json_lines if "cannot be added up" in line["message"]]
        service.stop()
    assert 1 <= len(warnings) <= 2, "one a worker"
    assert warnings[0]["severity"] == "WARN"
    assert warnings[0]["setting"] == "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"
    assert service.process.returncode == 0


def test_on_a_read_only_root_file_system_workers_meet_in_shared_memory() -> None:
    """What a container with readOnlyRootFilesystem sees: nothing can be written to but /dev/shm."""
    contained = ["unshare", "--mount", "bash", "-c"]
    read_only = "mount --make-rprivate / && mount -o remount,ro,bind / /"
    if subprocess.run([*contained, read_only], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a mount namespace")
    port = free_port()
    server = [sys.executable, "-m", "uvicorn", "shop:app", "--app-dir", str(APPS), "--port", str(port)]
    script = f'{read_only} && ! touch /tmp/probe && exec "$@"'
    with Service([*contained, script, "--", *server, "--workers", "2"], port) as service:
        service.wait_until_ready()
        pids = {httpx.get(f"{service.url}/order").json()["pid"] for _ in range(40)}
        assert scrape(service.url).value("orders_placed_total") == 40
        assert scrape(service.url).value("orders_placed_total") == 40
        assert "cannot be added up" not in service.output
        [directory] = Path("/dev/shm").glob(f"connectsoft-obs-*/shop-*/{min(pids)}-*.cells")
        assert directory.parent.name.startswith("shop-")

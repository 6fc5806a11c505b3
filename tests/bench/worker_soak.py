"""Soak test of the worker integrations: kills workers at random and compares the metrics with what the jobs recorded.

python tests/bench/worker_soak.py [--seconds 600] [--only celery,rq] [--parallel 2] [--seed 1]

A client sends numbered jobs to a real broker. Two workers execute them (APScheduler: one scheduler). After 6 to 15 s a
worker gets SIGTERM (70 %), or SIGKILL with all its child processes (20 %), or one of its child processes gets SIGKILL
(10 %), and the worker is started again. Each job appends a line to a file at its start and at its end. A third worker,
without jobs, owns the management port; its page has the totals of all workers that have used this port.

The test fails if an outcome on the page differs from the lines, if a total decreases, or if a job is active after the
end. A process can get SIGKILL after a job has written its last line and before the job is counted: only the jobs that
ended within 0.1 s of the SIGKILL of their process can be missing. `killed` are attempts that have no end; a worker counts
those whose child process was killed alone. Retries are compared with the attempts that follow a requested retry, and with
all repeated attempts, because frameworks differ in whether a message that is delivered again is a new attempt.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent)]

from support import brokers
from support.process import APPS, Service, free_port
from support.process_stats import child_pids
from support.scrape import MetricsPage, scrape

KILL_WINDOW = 0.1
"""Seconds around a SIGKILL in which a job can have ended and be uncounted."""

KILLED_ERRORS = ("WorkHorseKilled", "WorkerLostError")
"""Error types with which a worker counts a job whose child process was killed."""


@dataclass(frozen=True)
class Framework:
    """A worker framework: its broker, the command of its worker after `python -m`, and the jobs sent per second."""

    broker: str
    command: str
    rate: float = 15.0
    workers: int = 2
    kinds: str = "success failure retry"


FRAMEWORKS = {
    "celery": Framework("rabbitmq", "celery -A soak_workers.celery_jobs worker -c 2 -n soak-{worker}@localhost"),
    "rq": Framework("redis", "soak_workers.rq_jobs", rate=3),
    "arq": Framework("redis", "arq soak_workers.arq_jobs.WorkerSettings"),
    "taskiq": Framework("redis", "taskiq worker soak_workers.taskiq_jobs:broker --workers 2"),
    "faststream": Framework("rabbitmq", "faststream run soak_workers.faststream_jobs:app", rate=5),
    "dramatiq": Framework("redis", "dramatiq soak_workers.dramatiq_jobs --processes 2 --threads 2"),
    "apscheduler": Framework("redis", "soak_workers.apscheduler_jobs", workers=1, kinds="success failure"),
}


@dataclass
class SoakResult:
    """What one framework did, according to its client, its jobs and its metrics."""

    framework: str
    seconds: float
    sent: set[int] = field(default_factory=set)
    signals: Counter[str] = field(default_factory=Counter)
    killed_pids: list[tuple[float, set[int]]] = field(default_factory=list)
    decreases: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    events: list[list[str]] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    active: float = 0.0

    @property
    def started(self) -> int:
        """Attempts that have started."""
        return sum(1 for event in self.events if event[5] == "start")

    @property
    def ended(self) -> Counter[str]:
        """Attempts by their end; `killed` are those without an end."""
        ended = Counter(event[5] for event in self.events if event[5] != "start")
        ended["killed"] = self.started - ended.total()
        return ended

    def unfinished(self) -> set[int]:
        """Jobs that have been sent and have no final outcome: the framework does not deliver the job of a killed worker again."""
        return self.sent - {int(event[2]) for event in self.events if event[5] in ("success", "failure")}

    def repeated(self) -> tuple[int, int]:
        """Attempts that the job itself has requested, and all attempts after the first one."""
        requested, repeated = 0, 0
        last_event: dict[str, str] = {}
        for *_, number, _, _, event in self.events:
            if event == "start" and number in last_event:
                repeated += 1
                requested += last_event[number] == "retry"
            last_event[number] = event
        return requested, repeated

    def ended_at_a_kill(self) -> int:
        """Ends of jobs immediately before a SIGKILL of their process."""
        return sum(
            1
            for at, pid, *_, event in self.events
            for killed_at, pids in self.killed_pids
            if event != "start" and int(pid) in pids and abs(float(at) - killed_at) < KILL_WINDOW
        )

    def check(self) -> list[str]:
        """Descriptions of all failed criteria."""
        problems = [*self.problems, *self.decreases]
        ended, counted, allowed = self.ended, self.counted, self.ended_at_a_kill()
        problems += [
            f"{outcome}: {counted[outcome]} counted, {ended[outcome]} recorded by the jobs"
            for outcome in ("success", "failure", "aborted")
            if not ended[outcome] - allowed <= counted[outcome] <= ended[outcome]
        ]
        if counted["killed"] > ended["killed"] + allowed:
            problems.append(f"killed: {counted['killed']} counted, {ended['killed']} have no end")
        requested, repeated = self.repeated()
        if not requested <= counted["retry"] <= repeated:
            problems.append(f"retries: {counted['retry']} counted, {requested} requested, {repeated} repeated")
        # A process can get SIGKILL after a run is counted and before the job has written its first line.
        in_advance = sum(len(pids) for _, pids in self.killed_pids)
        if self.framework != "apscheduler" and not 0 <= counted["started"] - self.started <= in_advance:
            problems.append(f"{counted['started']} starts counted, {self.started} recorded by the jobs")
        if self.active:
            problems.append(f"{self.active:.0f} jobs are active after all workers have ended")
        return problems

    def row(self) -> str:
        """The row of the table; each pair is the number of the jobs and the number on the page."""
        ended, counted = self.ended, self.counted
        signals = (f"{self.signals[name]}" for name in SIGNALS)
        started = "-" if self.framework == "apscheduler" else f"{counted['started']:,}"  # it receives no messages
        cells = [
            f"{self.framework}, {self.seconds:.0f} s",
            " / ".join(signals),
            f"{len(self.sent):,}",
            f"{len(self.unfinished())}",
            f"{self.started:,} / {started}",
            *(f"{ended[outcome]:,} / {counted[outcome]:,}" for outcome in ("success", "failure", "aborted", "killed")),
            f"{self.repeated()[0]:,} to {self.repeated()[1]:,} / {counted['retry']:,}",
            "; ".join(self.check()) or "none",
        ]
        return f"| {' | '.join(cells)} |"


SIGNALS = ("SIGTERM", "SIGKILL", "child")
HEADER = (
    "| framework | SIGTERM / SIGKILL / SIGKILL of a child | sent | lost | started "
    "| success | failure | aborted | killed | retries | errors |\n" + "|---" * 11 + "|"
)


class WorkerSoak:
    """One run of one framework.

    Args:
        name: the framework.
        seconds: how long the client sends jobs.
        seed: seed of the random choices.
    """

    def __init__(self, name: str, seconds: float, seed: int) -> None:
        self._framework = FRAMEWORKS[name]
        self._seed = seed
        self._is_over = threading.Event()
        self._result = SoakResult(name, seconds)

    def run(self) -> SoakResult:
        """Run the test and return its result."""
        result, framework = self._result, self._framework
        with tempfile.TemporaryDirectory() as folder, getattr(brokers, framework.broker)() as broker:
            port = free_port()
            self._file = Path(folder) / "attempts"
            self._file.touch()
            self._environment = {
                "BROKER": broker.url, "QUEUE": "soak", "ATTEMPTS": str(self._file),
                "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "OTEL_SERVICE_NAME": "soak",
            }  # fmt: skip
            command = [sys.executable, "-m", "soak_workers.observer"]
            with Service(command, port, self._environment) as observer, ThreadPoolExecutor() as threads:
                observer.wait_until_ready(seconds=60)
                slots = [threads.submit(self._run_worker, number) for number in range(framework.workers)]
                try:
                    self._send_jobs(observer)
                    self._wait_for_jobs(observer)
                finally:
                    self._is_over.set()
                for slot in slots:
                    slot.result()
                self._read_events()
                self._read_counts(observer)
        return result

    def _run_worker(self, number: int) -> None:
        """Start a worker again and again, until the test is over."""
        choices = random.Random(f"{self._result.framework} {self._seed} {number}")
        command = [sys.executable, "-m", *self._framework.command.format(worker=number).split()]
        while not self._is_over.is_set():
            with Service(command, free_port(), self._environment) as worker:
                while (action := self._wait_and_choose(worker, choices)) == "child":
                    self._kill([choices.choice(_job_processes(worker))])
                if action == "SIGKILL":
                    self._kill([worker.process.pid, *_descendants(worker.process.pid)])
                elif worker.process.poll() is None:
                    self._stop(worker)

    def _wait_and_choose(self, worker: Service, choices: random.Random) -> str:
        """Wait, and choose what happens to a worker: always SIGTERM at the end of the test."""
        deadline = time.monotonic() + choices.uniform(6, 15)
        while time.monotonic() < deadline and worker.process.poll() is None:
            if self._is_over.wait(0.1):
                return "SIGTERM"
        [action] = choices.choices(SIGNALS, (70, 20, 10))
        if worker.process.poll() is not None:  # some frameworks end with one of their child processes
            return "ended"
        if action == "child" and not _job_processes(worker):
            action = "SIGKILL"
        self._result.signals[action] += 1
        return action

    def _kill(self, pids: list[int]) -> None:
        self._result.killed_pids.append((time.time(), set(pids)))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _stop(self, worker: Service) -> None:
        try:
            worker.stop(seconds=60)
        except AssertionError as error:
            self._result.problems.append("a worker did not end within 60 s of SIGTERM")
            print(error, file=sys.stderr)

    def _send_jobs(self, observer: Service) -> None:
        """Send jobs at the rate of the framework, and check once a second that no total decreases."""
        choices = random.Random(self._seed)
        kinds = self._framework.kinds.split()
        weights = (70, 10, 20)[: len(kinds)]
        with self._client() as client:
            assert client.stdin is not None
            assert client.stdout is not None
            started, last_page = time.monotonic(), scrape(observer.url)
            number = 0
            while (elapsed := time.monotonic() - started) < self._result.seconds:
                if number < elapsed * self._framework.rate:
                    number += 1
                    client.stdin.write(f"{number} {choices.choices(kinds, weights)[0]}\n")
                    client.stdin.flush()
                    while (line := client.stdout.readline()) and line.strip() != str(number):
                        pass  # a log line
                    self._result.sent.add(number)
                else:
                    time.sleep(0.02)
                if number % int(self._framework.rate) == 0:
                    last_page = self._compare(last_page, scrape(observer.url))

    @contextlib.contextmanager
    def _client(self) -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, **self._environment, "PYTHONPATH": str(APPS)}
        command = [sys.executable, "-m", "soak_workers.client", f"{self._result.framework}_jobs"]
        with subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            yield client

    def _compare(self, before: MetricsPage, after: MetricsPage) -> MetricsPage:
        old, new = _counts(before), _counts(after)
        self._result.decreases += [
            f"{name} decreased from {old[name]} to {new[name]}" for name in old if new[name] < old[name]
        ]
        return after

    def _wait_for_jobs(self, observer: Service) -> None:
        """Wait until all jobs have ended, or nothing has happened for 20 s: the remaining jobs are lost."""
        page, last_event = scrape(observer.url), time.monotonic()
        while self._result.unfinished() and time.monotonic() - last_event < 20:
            time.sleep(0.5)
            events = len(self._result.events)
            self._read_events()
            if len(self._result.events) > events:
                last_event = time.monotonic()
            page = self._compare(page, scrape(observer.url))

    def _read_events(self) -> None:
        self._result.events = [line.split() for line in self._file.read_text().splitlines()]

    def _read_counts(self, observer: Service) -> None:
        page = scrape(observer.url)
        self._result.counted = _counts(page)
        self._result.active = page.sum("connectsoft_job_active") + page.sum("connectsoft_message_active")


def _counts(page: MetricsPage) -> Counter[str]:
    """The number of ended attempts by outcome."""
    counts: Counter[str] = Counter()
    for (name, outcome, error), count in page.job_runs().items():
        if name != "wake-up":
            counts["killed" if error.rpartition(".")[2] in KILLED_ERRORS else outcome] += int(count)
    counts["retry"] += int(page.sum("connectsoft_job_retries_total"))
    counts["started"] += int(page.sum("messaging_client_consumed_messages_total"))
    for (outcome,), count in page.values_by("connectsoft_message_outcomes_total", "connectsoft_outcome").items():
        counts["retry" if outcome == "rejected" else outcome] += int(count)
    return counts


def _descendants(pid: int) -> list[int]:
    pids = []
    with contextlib.suppress(OSError):
        for child in child_pids(pid):
            pids += [child, *_descendants(child)]
    return pids


def _job_processes(worker: Service) -> list[int]:
    """The child processes that execute jobs, without the resource tracker of `multiprocessing`."""
    pids = []
    for pid in _descendants(worker.process.pid):
        with contextlib.suppress(OSError):
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.append(pid)
    return pids


def main() -> int:
    """Run the test of each framework and print the table; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--only", default=",".join(FRAMEWORKS))
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(HEADER, flush=True)
    has_failed = False
    with ThreadPoolExecutor(options.parallel) as threads:
        for result in threads.map(
            lambda name: WorkerSoak(name, options.seconds, options.seed).run(), options.only.split(",")
        ):
            print(result.row(), flush=True)
            has_failed |= bool(result.check())
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())

"""Series of declared jobs before their first run."""

from __future__ import annotations

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


@obs.job("declared-at-import", trigger="queue")
def declared_job() -> None: ...


def test_declared_job_has_series_with_value_zero_when_the_worker_starts() -> None:
    with capture() as captured, obs.worker(service="mailer", prometheus_port=0):
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="declared-at-import").series != ()
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="declared-at-import").count == 0
        assert captured.metric("connectsoft.job.active", connectsoft_job_name="declared-at-import").value == 0
        declared_job()
        assert captured.metric("connectsoft.job.duration", connectsoft_job_name="declared-at-import").count == 1


def test_job_declared_while_the_worker_runs_has_series() -> None:
    with capture() as captured, obs.worker(service="mailer", prometheus_port=0):

        @obs.job("declared-late")
        def late_job() -> None: ...

        assert captured.metric("connectsoft.job.active", connectsoft_job_name="declared-late").value == 0


def test_capture_without_a_worker_has_no_series_of_declared_jobs() -> None:
    with capture(service="other") as captured:
        obs.get_logger().info("begin")
        assert captured.metric("connectsoft.job.active", connectsoft_job_name="declared-at-import").series == ()

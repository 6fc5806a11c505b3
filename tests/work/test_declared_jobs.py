"""What a worker's page has before anything has run."""

from __future__ import annotations

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


@obs.job("known-before-it-runs", trigger="queue")
def known() -> None: ...


def test_the_series_of_a_declared_job_are_there_at_zero_when_the_process_serves() -> None:
    with capture() as seen, obs.worker(service="mailer", prometheus_port=0):
        assert seen.metric("connectsoft.job.duration", connectsoft_job_name="known-before-it-runs").series != ()
        assert seen.metric("connectsoft.job.duration", connectsoft_job_name="known-before-it-runs").count == 0
        assert seen.metric("connectsoft.job.active", connectsoft_job_name="known-before-it-runs").value == 0
        known()
        assert seen.metric("connectsoft.job.duration", connectsoft_job_name="known-before-it-runs").count == 1


def test_a_job_that_is_declared_while_the_process_serves_is_there_too() -> None:
    with capture() as seen, obs.worker(service="mailer", prometheus_port=0):

        @obs.job("declared-late")
        def late() -> None: ...

        assert seen.metric("connectsoft.job.active", connectsoft_job_name="declared-late").value == 0


def test_a_test_that_serves_nothing_sees_only_what_has_run() -> None:
    with capture(service="other") as seen:
        obs.get_logger().info("begin")
        assert seen.metric("connectsoft.job.active", connectsoft_job_name="known-before-it-runs").series == ()

"""One set of numbers for all workers of a service, in files that each of them writes alone and any of them reads."""

from connectsoft_obs.signals.metrics.multiprocess.directory import candidate_dirs as candidate_dirs
from connectsoft_obs.signals.metrics.multiprocess.directory import find_or_create as find_or_create
from connectsoft_obs.signals.metrics.multiprocess.worker_group import WorkerGroup as WorkerGroup

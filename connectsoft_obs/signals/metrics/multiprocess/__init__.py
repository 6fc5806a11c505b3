"""Shared metric values of the workers of one service: each worker writes its own file, and any worker reads them all."""

from connectsoft_obs.signals.metrics.multiprocess.directory import WORKER_FILE_SUFFIX as WORKER_FILE_SUFFIX
from connectsoft_obs.signals.metrics.multiprocess.directory import candidate_directories as candidate_directories
from connectsoft_obs.signals.metrics.multiprocess.directory import find_directory as find_directory
from connectsoft_obs.signals.metrics.multiprocess.directory import find_or_create_directory as find_or_create_directory
from connectsoft_obs.signals.metrics.multiprocess.directory import running_processes as running_processes
from connectsoft_obs.signals.metrics.multiprocess.directory import shared_directory_of as shared_directory_of
from connectsoft_obs.signals.metrics.multiprocess.worker_group import WorkerGroup as WorkerGroup

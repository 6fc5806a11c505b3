"""One set of numbers for all workers of a service, in files that each of them writes alone and any of them reads."""

from connectsoft_obs.signals.metrics.shared.directory import meet as meet
from connectsoft_obs.signals.metrics.shared.directory import places as places
from connectsoft_obs.signals.metrics.shared.locks import Lock as Lock
from connectsoft_obs.signals.metrics.shared.supervisor import supervisor as supervisor
from connectsoft_obs.signals.metrics.shared.workers import Workers as Workers

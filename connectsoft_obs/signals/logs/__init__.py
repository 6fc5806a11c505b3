"""Logs: one structured stream for everything the process says."""

from connectsoft_obs.signals.logs.exceptions import reported as reported
from connectsoft_obs.signals.logs.form import NOTHING as NOTHING
from connectsoft_obs.signals.logs.form import Digits as Digits
from connectsoft_obs.signals.logs.form import Form as Form
from connectsoft_obs.signals.logs.form import Fragment as Fragment
from connectsoft_obs.signals.logs.logger import Logger as Logger
from connectsoft_obs.signals.logs.output import Line as Line
from connectsoft_obs.signals.logs.output import Output as Output
from connectsoft_obs.signals.logs.stdlib import TakenOver as TakenOver
from connectsoft_obs.signals.logs.stdlib import take_over as take_over
from connectsoft_obs.signals.logs.stream import LogStream as LogStream
from connectsoft_obs.signals.logs.structured import take_over_structlog as take_over_structlog
from connectsoft_obs.signals.logs.uncaught import Uncaught as Uncaught
from connectsoft_obs.signals.logs.uncaught import watch_loop as watch_loop

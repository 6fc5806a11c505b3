"""Structured logs: one pipeline for all log records of the process."""

from connectsoft_obs.signals.logs.excepthooks import ExceptHooks as ExceptHooks
from connectsoft_obs.signals.logs.excepthooks import watch_loop as watch_loop
from connectsoft_obs.signals.logs.exceptions import logged_exception as logged_exception
from connectsoft_obs.signals.logs.log_line_template import NO_FIELDS as NO_FIELDS
from connectsoft_obs.signals.logs.log_line_template import EncodedFields as EncodedFields
from connectsoft_obs.signals.logs.log_line_template import HexIds as HexIds
from connectsoft_obs.signals.logs.log_line_template import LogLineTemplate as LogLineTemplate
from connectsoft_obs.signals.logs.logger import Logger as Logger
from connectsoft_obs.signals.logs.pipeline import LogPipeline as LogPipeline
from connectsoft_obs.signals.logs.stdlib import StdlibTakeover as StdlibTakeover
from connectsoft_obs.signals.logs.stdlib import install_handlers as install_handlers
from connectsoft_obs.signals.logs.stdout_writer import Line as Line
from connectsoft_obs.signals.logs.stdout_writer import StdoutWriter as StdoutWriter
from connectsoft_obs.signals.logs.structlog_bridge import take_over_structlog as take_over_structlog

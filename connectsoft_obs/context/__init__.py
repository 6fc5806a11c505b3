"""The current operation and span, their bindings, and their propagation in headers."""

from connectsoft_obs.context import w3c as w3c
from connectsoft_obs.context.executor import carry_context as carry_context
from connectsoft_obs.context.operation_context import OPERATION_KEY as OPERATION_KEY
from connectsoft_obs.context.operation_context import SPAN_KEY as SPAN_KEY
from connectsoft_obs.context.operation_context import ambient_bindings as ambient_bindings
from connectsoft_obs.context.operation_context import bind as bind
from connectsoft_obs.context.operation_context import context_with as context_with
from connectsoft_obs.context.operation_context import current_operation as current_operation
from connectsoft_obs.context.operation_context import isolated_bindings as isolated_bindings
from connectsoft_obs.context.operation_context import sanitize as sanitize
from connectsoft_obs.context.operation_context import set_sanitizer as set_sanitizer
from connectsoft_obs.context.propagation import CORRELATION_KEY as CORRELATION_KEY
from connectsoft_obs.context.propagation import EMPTY_INBOUND as EMPTY_INBOUND
from connectsoft_obs.context.propagation import Inbound as Inbound
from connectsoft_obs.context.propagation import Propagation as Propagation
from connectsoft_obs.context.propagation import extract as extract
from connectsoft_obs.context.propagation import inject as inject
from connectsoft_obs.context.propagation import install_correlation_propagator as install_correlation_propagator
from connectsoft_obs.context.propagation import parse_correlation_id as parse_correlation_id

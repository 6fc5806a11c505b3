"""What runs now, and its identity on the wire."""

from connectsoft_obs.context import w3c as w3c
from connectsoft_obs.context.current import OPERATION as OPERATION
from connectsoft_obs.context.current import SPAN as SPAN
from connectsoft_obs.context.current import ambient_bindings as ambient_bindings
from connectsoft_obs.context.current import bind as bind
from connectsoft_obs.context.current import context_with as context_with
from connectsoft_obs.context.current import current_operation as current_operation
from connectsoft_obs.context.current import isolated_bindings as isolated_bindings
from connectsoft_obs.context.current import push as push
from connectsoft_obs.context.current import sanitize as sanitize
from connectsoft_obs.context.current import set_sanitizer as set_sanitizer
from connectsoft_obs.context.executor import carry_context as carry_context
from connectsoft_obs.context.propagation import CORRELATION as CORRELATION
from connectsoft_obs.context.propagation import EMPTY_INBOUND as EMPTY_INBOUND
from connectsoft_obs.context.propagation import Inbound as Inbound
from connectsoft_obs.context.propagation import Propagation as Propagation
from connectsoft_obs.context.propagation import correlation_id as correlation_id
from connectsoft_obs.context.propagation import extract as extract
from connectsoft_obs.context.propagation import inject as inject
from connectsoft_obs.context.propagation import install as install

"""What runs now, and its identity on the wire."""

from connectsoft_obs.context import w3c as w3c
from connectsoft_obs.context.current import OPERATION as OPERATION
from connectsoft_obs.context.current import SPAN as SPAN
from connectsoft_obs.context.current import bind as bind
from connectsoft_obs.context.current import clean as clean
from connectsoft_obs.context.current import cleaned_by as cleaned_by
from connectsoft_obs.context.current import current as current
from connectsoft_obs.context.current import enter as enter
from connectsoft_obs.context.current import outside as outside
from connectsoft_obs.context.current import unbound as unbound
from connectsoft_obs.context.current import within as within
from connectsoft_obs.context.propagation import CORRELATION as CORRELATION
from connectsoft_obs.context.propagation import NOTHING as NOTHING
from connectsoft_obs.context.propagation import Inbound as Inbound
from connectsoft_obs.context.propagation import Propagation as Propagation
from connectsoft_obs.context.propagation import correlation_id as correlation_id
from connectsoft_obs.context.propagation import extract as extract
from connectsoft_obs.context.propagation import inject as inject
from connectsoft_obs.context.propagation import install as install
from connectsoft_obs.context.threads import carry_context as carry_context

"""Every name that leaves the process: metrics, labels, attributes, outcomes, headers.

Prometheus families, OTLP instruments, documentation tables and tests are derived from these definitions; no other
module spells a telemetry name. Standard names follow OpenTelemetry semantic conventions 1.44.0; `connectsoft.` names
exist only where there is no standard one.
"""

from .attributes import *
from .enums import *
from .metrics import *
from .process import *
from .prometheus import *
from .slo import *

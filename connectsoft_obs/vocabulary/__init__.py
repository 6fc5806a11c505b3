"""Names of all exported telemetry: metrics, labels, attributes, outcomes, headers.

Prometheus families, OTLP instruments, documentation tables and tests are derived from these definitions; no other
module contains a telemetry name. Standard names follow the OpenTelemetry semantic conventions 1.44.0; names with the
prefix `connectsoft.` exist only where there is no standard name.
"""

from .attributes import *
from .enums import *
from .metrics import *
from .process_metrics import *
from .prometheus import *
from .slo import *

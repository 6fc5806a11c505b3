"""What a service promises, declared beside the code: objectives, and the rules that follow from them."""

from connectsoft_obs.slo.declare import all_of as all_of
from connectsoft_obs.slo.declare import availability as availability
from connectsoft_obs.slo.declare import freshness as freshness
from connectsoft_obs.slo.declare import latency as latency
from connectsoft_obs.slo.declare import outage as outage
from connectsoft_obs.slo.declare import percentile as percentile
from connectsoft_obs.slo.declare import processed as processed
from connectsoft_obs.slo.declare import ratio as ratio
from connectsoft_obs.slo.declare import success as success
from connectsoft_obs.slo.events import Objectives as Objectives
from connectsoft_obs.slo.events import thresholds as thresholds
from connectsoft_obs.slo.files import load as load
from connectsoft_obs.slo.files import promised as promised
from connectsoft_obs.slo.model import SLO as SLO
from connectsoft_obs.slo.model import Alerting as Alerting
from connectsoft_obs.slo.model import Composite as Composite
from connectsoft_obs.slo.model import Promises as Promises
from connectsoft_obs.slo.model import Source as Source
from connectsoft_obs.slo.presets import preset as preset

"""Declaration of service level objectives (SLOs), and counting of their good and bad events."""

from connectsoft_obs.slo.alerting import Alerting as Alerting
from connectsoft_obs.slo.event_counter import EventCounter as EventCounter
from connectsoft_obs.slo.event_counter import required_buckets as required_buckets
from connectsoft_obs.slo.loader import load as load
from connectsoft_obs.slo.loader import load_any as load_any
from connectsoft_obs.slo.model import SLO as SLO
from connectsoft_obs.slo.model import CompositeSLO as CompositeSLO
from connectsoft_obs.slo.model import ServiceSLOs as ServiceSLOs
from connectsoft_obs.slo.model import Source as Source
from connectsoft_obs.slo.objectives import all_of as all_of
from connectsoft_obs.slo.objectives import availability as availability
from connectsoft_obs.slo.objectives import freshness as freshness
from connectsoft_obs.slo.objectives import job_success_rate as job_success_rate
from connectsoft_obs.slo.objectives import latency as latency
from connectsoft_obs.slo.objectives import message_success_rate as message_success_rate
from connectsoft_obs.slo.objectives import outage as outage
from connectsoft_obs.slo.objectives import percentile as percentile
from connectsoft_obs.slo.objectives import ratio as ratio
from connectsoft_obs.slo.policy import ErrorBudgetPolicy as ErrorBudgetPolicy
from connectsoft_obs.slo.presets import preset as preset

"""Work outside requests: jobs, messages, and the processes that do them."""

from connectsoft_obs.work import batch_metrics as batch_metrics
from connectsoft_obs.work.consumers import Consumer as Consumer
from connectsoft_obs.work.consumers import consumer as consumer
from connectsoft_obs.work.genai import GenAiCall as GenAiCall
from connectsoft_obs.work.genai import genai_call as genai_call
from connectsoft_obs.work.heartbeats import Heartbeat as Heartbeat
from connectsoft_obs.work.heartbeats import heartbeat as heartbeat
from connectsoft_obs.work.jobs import job as job
from connectsoft_obs.work.jobs import operation as operation
from connectsoft_obs.work.jobs import skip as skip
from connectsoft_obs.work.producers import Producer as Producer
from connectsoft_obs.work.producers import producer as producer
from connectsoft_obs.work.run import Run as Run
from connectsoft_obs.work.span_api import SpanBlock as SpanBlock
from connectsoft_obs.work.span_api import span as span
from connectsoft_obs.work.span_api import traced as traced
from connectsoft_obs.work.worker_process import Worker as Worker
from connectsoft_obs.work.worker_process import worker as worker

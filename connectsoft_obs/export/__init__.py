"""How finished telemetry leaves the process: wire form, queue, batches, transports, retries."""

from connectsoft_obs.export.destination import Destination as Destination
from connectsoft_obs.export.destination import destination as destination
from connectsoft_obs.export.insights import Insights as Insights
from connectsoft_obs.export.insights import insights as insights
from connectsoft_obs.export.insights import unsent as unsent
from connectsoft_obs.export.piles import Pile as Pile
from connectsoft_obs.export.pipeline import Pipeline as Pipeline
from connectsoft_obs.export.transport import Answer as Answer
from connectsoft_obs.export.transport import Transport as Transport


def transport(to: Destination | Insights) -> Transport:
    """The transport of a destination; gRPC is imported only here, Azure's exporter by its transport."""
    if isinstance(to, Insights):
        from connectsoft_obs.export.insights import InsightsTransport

        return InsightsTransport(to)
    if to.grpc:
        from connectsoft_obs.export.grpc import GrpcTransport

        return GrpcTransport(to)
    from connectsoft_obs.export.http import HttpTransport

    return HttpTransport(to)

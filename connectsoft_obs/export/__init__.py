"""Export of telemetry: encoding, queue, batches, transports, retries."""

from connectsoft_obs.export.azure_monitor.destination import (
    ApplicationInsightsDestination as ApplicationInsightsDestination,
)
from connectsoft_obs.export.azure_monitor.destination import create_application_insights as create_application_insights
from connectsoft_obs.export.azure_monitor.destination import missing_exporter_warning as missing_exporter_warning
from connectsoft_obs.export.batch_processor import BatchProcessor as BatchProcessor
from connectsoft_obs.export.chunks import Chunk as Chunk
from connectsoft_obs.export.destination import Destination as Destination
from connectsoft_obs.export.destination import create_destination as create_destination
from connectsoft_obs.export.transport import ExportResult as ExportResult
from connectsoft_obs.export.transport import Transport as Transport


def create_transport(destination: Destination | ApplicationInsightsDestination) -> Transport:
    """Create the transport of a destination. gRPC is imported here, the Azure exporter by its transport."""
    if isinstance(destination, ApplicationInsightsDestination):
        from connectsoft_obs.export.azure_monitor.transport import AzureMonitorTransport

        return AzureMonitorTransport(destination)
    if destination.grpc:
        from connectsoft_obs.export.grpc import GrpcTransport

        return GrpcTransport(destination)
    from connectsoft_obs.export.http import HttpTransport

    return HttpTransport(destination)

"""What to change for each reason for which a collector refuses OTLP exports."""

from __future__ import annotations


def advice_for_refusal(reason: str, signal: str) -> str:
    """What to change so that a collector accepts OTLP exports."""
    path = (
        f"Check the path of the URL: OTEL_EXPORTER_OTLP_ENDPOINT is extended by /v1/{signal}, and "
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT is used as it is. Check the port: 4318 is for HTTP, 4317 for gRPC."
    )
    grpc_method = (
        f"Check the port: 4317 is for gRPC, 4318 for HTTP (OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf). Check that the "
        f"collector has a pipeline for {signal}."
    )
    credentials = "Check the token in OTEL_EXPORTER_OTLP_HEADERS and its permissions."
    actions = {
        "certificate_file": "Correct the name, the permissions or the content of the file.",
        "tls_certificate": "Set OTEL_EXPORTER_OTLP_CERTIFICATE to the CA certificate of the collector, and use a host name of its "
        "certificate in the URL.",
        "tls_client_certificate": "Set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY to a certificate that "
        "the collector accepts.",
        "plaintext_port": "The port does not use TLS: use http:// in the URL, or the TLS port.",
        "tls_port": "The port requires TLS: use https:// in the URL, or the port without TLS.",
        "grpc_port": "The port speaks gRPC: use the port for HTTP (4318; 4317 is for gRPC), or set "
        "OTEL_EXPORTER_OTLP_PROTOCOL=grpc.",
        "http_port": "The port does not speak gRPC: use the port for gRPC (4317; 4318 is for HTTP), or set "
        "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf.",
        "http_401": credentials,
        "http_403": credentials,
        "grpc_unauthenticated": credentials,
        "grpc_permission_denied": credentials,
        "http_404": path,
        "http_405": path,
        "http_415": path,
        "grpc_unimplemented": grpc_method,
        "http_413": "Increase the maximum request size of the collector, or set OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: a single item "
        "is too large.",
        "grpc_resource_exhausted": "Increase the maximum request size or the quota of the collector.",
        "proxy_407": "Check HTTPS_PROXY, or exclude the collector from the proxy with NO_PROXY.",
    }
    if reason.startswith("http_3"):
        return "Set the URL to the address that the collector redirects to; exports do not follow redirects."
    return actions.get(
        reason, f"Check that the URL is an OTLP receiver for {signal}, and read the log of the collector."
    )

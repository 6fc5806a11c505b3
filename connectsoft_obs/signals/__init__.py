"""Metrics, tracing and logs: what is known of an operation, written down three ways. None knows another."""

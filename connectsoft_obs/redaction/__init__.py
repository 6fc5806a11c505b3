"""One policy for secrets, for every place where telemetry leaves the process."""

"""Metrics, traces and logs: three packages that do not depend on each other."""

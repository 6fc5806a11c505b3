"""Operator tooling: commands that people and pipelines run. No service imports it."""

"""Formats of generated files."""

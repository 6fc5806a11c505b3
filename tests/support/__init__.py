"""Servers, fake backends and processes that the tests start."""

"""Benchmarks. Every figure is a ratio between variants that run interleaved within one run."""

"""Costs, always as ratios between variants that ran interleaved in one run."""

"""Loads the application of a variant into a server: `BENCH_VARIANT=connectsoft-obs uvicorn server_app:app`."""

from __future__ import annotations

import os

from variants import build

app = build(os.environ["BENCH_VARIANT"])

"""The application of a variant for a real server: `BENCH_VARIANT=ours uvicorn served:app`."""

from __future__ import annotations

import os

from variants import build

app = build(os.environ["BENCH_VARIANT"])

"""A FastAPI application with a title, whose service has no name."""

from __future__ import annotations

import os

from fastapi import FastAPI

import connectsoft_obs as obs

title = os.environ.get("APP_TITLE")
app = FastAPI(title=title) if title else FastAPI()
app.add_middleware(obs.ObservabilityMiddleware)


@app.get("/books")
async def books() -> int:
    return os.getpid()

"""A service for the output on a terminal: nested spans, an exception below several libraries, long and unusual data."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import httpx
from fastapi import FastAPI

import connectsoft_obs as obs

log = obs.get_logger("shop")
app = FastAPI()
app.add_middleware(obs.ObservabilityMiddleware, service="shop")
tasks: list[asyncio.Task[None]] = []


async def send_mail() -> None:
    with obs.span("mail"):
        await asyncio.sleep(0.05)


@app.get("/orders/{number}")
async def order(number: str) -> str:
    obs.bind(order_id=number)
    with obs.span("price", total=99.5):
        log.info("priced", total=99.5, note="n" * 200)
        with obs.span("discount\x1b[2J"):
            pass
    async with httpx.AsyncClient() as client:
        with contextlib.suppress(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/stock?token=abc123")
    tasks.append(asyncio.create_task(send_mail()))
    return number


@app.get("/failing/{number}")
async def failing(number: int) -> None:
    message = "stock is low " + "and so is this text " * 10
    log.warning(message, detail="d" * 300, hostile="\x1b[2J\r\nforged")
    read_database()


def read_database() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("select * from orders")
        except sqlite3.OperationalError as error:
            raise LookupError("no such order \x1b]0;title\x07 " + "x" * 150) from error

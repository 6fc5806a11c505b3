"""Pictures of what terminals show, made by the build from real runs; both are written into `docs/pictures`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PLACE = Path(__file__).parent / "pictures"
_FOLDERS = re.compile(rf"[^\"]*/site-packages/|{re.escape(str(Path(__file__).parents[1]))}/")

_SERVICE = """
import connectsoft_obs as obs
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

log = obs.get_logger("orders")


async def order(request):
    obs.bind(tenant_id="acme")
    log.info("order read", order_id=request.path_params["id"], items=3)
    return PlainTextResponse("an order")


async def pay(request):
    log.warning("payment provider is slow", attempt=2)
    raise TimeoutError("no answer within 2 s")


app = Starlette(routes=[Route("/orders/{id}", order), Route("/orders/{id}/payment", pay, methods=["POST"])])
app.add_middleware(obs.ObservabilityMiddleware, service="orders-api")
with TestClient(app, raise_server_exceptions=False) as client:
    client.get("/orders/42")
    client.get("/orders/42/nothing")
    client.post("/orders/42/payment")
"""


def on_a_terminal(*command: str) -> str:
    """What a command writes when somebody looks at it, colours included."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "170"}
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.STDOUT, env=environment) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # how Linux says that nobody writes to a terminal any more
            pass
        os.close(ours)
        if process.wait(120):
            raise RuntimeError(said.decode("utf-8", "replace"))
    # Where this machine keeps its packages is nobody's business.
    return _FOLDERS.sub("", said.decode("utf-8", "replace").replace("\r\n", "\n"))


def drawn(name: str, title: str, said: str, lines: int) -> None:
    """The last so many lines of a terminal as `name`.svg."""
    console = Console(record=True, width=170, file=open(os.devnull, "w"))  # noqa: SIM115  as long as the console lives
    console.print(Text.from_ansi("\n".join(said.rstrip().split("\n")[-lines:]), no_wrap=True), crop=True)
    PLACE.mkdir(exist_ok=True)
    console.save_svg(str(PLACE / f"{name}.svg"), title=title)


def draw() -> None:
    """Both pictures."""
    drawn("console", "python orders.py", on_a_terminal(sys.executable, "-W", "ignore", "-c", _SERVICE), 40)
    drawn(
        "demo",
        "python -m connectsoft_obs demo --once",
        on_a_terminal(sys.executable, "-m", "connectsoft_obs", "demo", "--once"),
        60,
    )

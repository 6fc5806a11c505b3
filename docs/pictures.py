"""Pictures of terminal output, created by the documentation build from real runs, in `docs/pictures`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parent / "pictures"
_MACHINE_PATHS = re.compile(rf"[^\"]*/site-packages/|{re.escape(str(Path(__file__).parents[1]))}/")

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
app.add_middleware(obs.ObservabilityMiddleware, service="orders-api", environment="development")
with TestClient(app, raise_server_exceptions=False) as client:
    client.get("/orders/42")
    client.get("/orders/42/nothing")
    client.post("/orders/42/payment")
"""


def run_in_terminal(columns: int, *command: str) -> str:
    """The output of a command that writes to a terminal, colours included."""
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.STDOUT, env=environment) as process:
        os.close(writer)
        output = b""
        try:
            while chunk := os.read(reader, 65536):
                output += chunk
        except OSError:  # Linux raises EIO when the last writer has closed the terminal
            pass
        os.close(reader)
        if process.wait(120):
            raise RuntimeError(output.decode("utf-8", "replace"))
    # Remove the paths of this machine.
    return _MACHINE_PATHS.sub("", output.decode("utf-8", "replace").replace("\r\n", "\n"))


def save_svg(name: str, title: str, columns: int, output: str, max_lines: int) -> None:
    """Save the last lines of a terminal output as `<name>.svg`."""
    console = Console(record=True, width=columns, file=open(os.devnull, "w"))  # noqa: SIM115  open as long as the console
    console.print(Text.from_ansi("\n".join(output.rstrip().split("\n")[-max_lines:]), no_wrap=True), crop=True)
    FOLDER.mkdir(exist_ok=True)
    console.save_svg(str(FOLDER / f"{name}.svg"), title=title)


def draw() -> None:
    """Write both pictures."""
    service = run_in_terminal(100, sys.executable, "-W", "ignore", "-c", _SERVICE)
    save_svg("console", "python orders.py", 100, service, 40)
    demo = run_in_terminal(170, sys.executable, "-m", "connectsoft_obs", "demo", "--once")
    save_svg("demo", "python -m connectsoft_obs demo --once", 170, demo, 60)

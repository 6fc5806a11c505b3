"""Sends the numbered jobs on standard input, one `NUMBER KIND` per line: `python -m soak_workers.client MODULE`.

Each job that was sent is confirmed by its number on standard output.
"""

from __future__ import annotations

import asyncio
import importlib
import sys


async def main() -> None:
    """Send jobs until the end of standard input."""
    module = importlib.import_module(f"soak_workers.{sys.argv[1]}")
    async with module.sender() as send:
        while line := await asyncio.to_thread(sys.stdin.readline):
            number, kind = line.split()
            await send(int(number), kind)
            print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main())

"""The applications without any observability, on Starlette and on FastAPI."""

from __future__ import annotations

from typing import Any


def starlette_app() -> Any:
    """The bare application on Starlette."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def item(request: Any) -> Any:
        return JSONResponse({"id": request.path_params["item_id"], "name": "thing", "price": 9.5})

    routes = [Route(f"/before{number}/{{x}}", item) for number in range(12)]
    routes += [Route("/items/{item_id}", item)]
    routes += [Route(f"/after{number}/{{x}}", item) for number in range(7)]
    return Starlette(routes=routes)


def fastapi_app(**options: Any) -> Any:
    """The bare application on FastAPI."""
    from fastapi import FastAPI

    app = FastAPI(**options)

    async def item(item_id: int) -> dict[str, Any]:
        return {"id": item_id, "name": "thing", "price": 9.5}

    async def other(x: str) -> str:
        return x

    for number in range(12):
        app.get(f"/before{number}/{{x}}")(other)
    app.get("/items/{item_id}")(item)
    for number in range(7):
        app.get(f"/after{number}/{{x}}")(other)
    return app

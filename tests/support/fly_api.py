"""A stand-in for the part of Fly's Machines API that a node speaks to: HTTP on a Unix socket.

It is not Fly's, and answers only what is known of it: 204 where metadata was taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class StandInForFlyApi:
    """`metadata`: by machine's path and key. `refuses`: it answers 429."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.asked: list[str] = []
        self.refuses = False
        self.app = Starlette(
            routes=[
                Route("/v1/apps/{app}/machines/{machine}/metadata/{key}", self._set, methods=["POST"]),
            ]
        )

    async def _set(self, request: Request) -> Response:
        path = request.path_params
        value = (await request.json())["value"]
        self.asked.append(f"{path['key']}={value}")
        if self.refuses:
            return Response(status_code=429)
        self.metadata[f"{path['app']}/{path['machine']}/{path['key']}"] = value
        return Response(status_code=204)


@asynccontextmanager
async def stand_in_for_fly_api(socket: Path) -> AsyncIterator[StandInForFlyApi]:
    """Listens at this path inside the block."""
    api = StandInForFlyApi()
    server = uvicorn.Server(uvicorn.Config(api.app, uds=str(socket), log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield api
    finally:
        server.should_exit = True
        await serving

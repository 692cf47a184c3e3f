"""The entry in front of the nodes where the one that writes is killed: `litecast dev-proxy`, in the demo's own process.

Visitors come to it, as they would on Fly, and name the node that they want (`fly-force-instance-id`): the plan says
which node gets which view."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from app.demo.config_files import HOST
from app.devproxy.pool import Pool
from app.devproxy.proxy import DevProxy, make_client
from app.devproxy.watch import Listed, Watch
from app.web.server import WebServer, bind
from cluster.address import Address
from cluster.tasks import ended


@asynccontextmanager
async def entry(ports: Iterable[int]) -> AsyncIterator[int]:
    """The port of an entry for the nodes at these ports, all of which run, while the block runs."""
    pool = Pool()
    listener = bind(HOST, 0)
    async with make_client() as client:
        server = WebServer(DevProxy(pool, client), listener)
        watch = Watch(pool, Listed([Address(HOST, port) for port in ports]), client)
        watching: list[asyncio.Task[None]] = []
        try:
            await server.start()
            await watch.look()
            watching.append(asyncio.create_task(watch.run(), name="demo: watch over the nodes"))
            yield int(listener.getsockname()[1])
        finally:
            await ended(watching)
            await server.stop()

"""The entry as a process: a listening socket, a watch over the nodes, and a proxy between the two."""

import asyncio
import logging
import signal

from app.devproxy.pool import Pool
from app.devproxy.proxy import DevProxy, make_client
from app.devproxy.watch import Places, Watch
from app.devproxy.wishes import Latencies
from app.web.server import WebServer, bind
from cluster.address import Address

log = logging.getLogger(__name__)


async def run_dev_proxy(
    listen_at: Address, places: Places, *, programs: bool, region: str, latencies: Latencies
) -> None:
    """Serve until SIGTERM or SIGINT; stopping takes less than two seconds, open streams included.

    `programs`: for the programs beside the nodes. `region`, `latencies`: see DevProxy. Raises HttpBindError if it
    cannot listen there.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = bind(listen_at.host, listen_at.port, setting="--bind")
    pool = Pool()
    async with make_client() as client:
        server = WebServer(DevProxy(pool, client, region=region, latencies=latencies), listener)
        watching: asyncio.Task[None] | None = None
        try:
            await server.start()
            log.info("entry at %s for nodes at %s", server.url, places)
            watch = Watch(pool, places, client, programs=programs)
            watching = asyncio.create_task(watch.run(), name="watch over the nodes")
            stopping = asyncio.create_task(stop.wait(), name="wait for a signal")
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if watching.done():
                await watching
            log.info("stopping: a signal came")
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await server.stop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
    log.info("stopped")

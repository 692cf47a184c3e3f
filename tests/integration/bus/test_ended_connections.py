"""Connections that end while the other side ends too: ZeroMQ's one thread must not be left telling it to nobody."""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
WITHIN_S = 40.0

ENDS_AT_ONCE = """
import asyncio, zmq
from cluster.address import Address
from cluster.zeromq import ZeroMqTransport

class Listener:
    def __init__(self): self.stands = asyncio.Queue()
    def opened(self, connection): self.stands.put_nowait(connection)
    def lost(self, *_): pass
    def writable(self, *_): pass
    def answered(self, *_): pass
    def received(self, *_): pass
    def refused(self, *_): pass

def far(context):
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.RCVHWM, 1)  # what is sent stays with the sender, whose socket lingers then
    return router, Address("127.0.0.1", router.bind_to_random_port("tcp://127.0.0.1"))

async def run():
    context, listener = zmq.Context(), Listener()
    transport = ZeroMqTransport(Address("127.0.0.1", 0))
    await transport.bind()
    transport.open(listener)
    for _ in range(5):
        router, address = far(context)
        connections = [transport.dial(address) for _ in range(5)]
        for _ in connections:
            connection = await listener.stands.get()
            while connection.send(bytes(100_000)):
                pass
        for connection in connections:
            connection.close()
        router.close(0)
        await asyncio.sleep(0.02)
    router, address = far(context)
    transport.dial(address)
    await listener.stands.get()
    router.close(0)
    await transport.stop()
    context.term()
    print("went on")

asyncio.run(run())
"""


async def test_connections_whose_both_ends_end_at_once_leave_the_rest_of_the_bus_as_it_was() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENDS_AT_ONCE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert printed == b"went on\n"

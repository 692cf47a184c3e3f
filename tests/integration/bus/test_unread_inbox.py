"""A process that is too busy to read what peers send it loses connections, and nothing else."""

import asyncio
import sys
from pathlib import Path

import pytest
import zmq

from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).parents[3]
LONGER_THAN_A_HEARTBEAT_S = 7.0
FULL_FRAMES = 5_000
"""More than the sockets of both sides keep."""

STALLED = """
import asyncio, sys
from cluster.address import Address
from cluster.zeromq import ZeroMqTransport

class Deaf:
    def received(self, *_): pass
    def refused(self, *_): pass

async def run():
    transport = ZeroMqTransport(Address("127.0.0.1", 0))
    address = await transport.bind()
    transport.open(Deaf())
    print(address.port, flush=True)
    sys.stdin.readline()  # stands still: the event loop does not turn, and ZeroMQ's own thread does
    await transport.stop()

asyncio.run(run())
"""


@pytest.mark.slow
async def test_connections_that_are_reset_while_nothing_is_read_do_not_end_the_process() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STALLED, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    proxy = TcpProxy(("127.0.0.1", port))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    try:
        dealer.connect(f"tcp://127.0.0.1:{proxy.port}")
        await eventually(lambda: proxy.accepted)
        sent = 0

        def is_full() -> bool:
            nonlocal sent
            try:
                while sent < FULL_FRAMES:
                    dealer.send(bytes(1_000), zmq.NOBLOCK)
                    sent += 1
            except zmq.Again:
                return False
            return True

        await eventually(is_full)
        proxy.cut()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), LONGER_THAN_A_HEARTBEAT_S)
        await process.communicate(b"go on\n")
        assert process.returncode == 0
    finally:
        dealer.close()
        context.term()
        await proxy.close()
        if process.returncode is None:
            process.kill()
            await process.wait()

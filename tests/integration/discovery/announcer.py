"""One node's zeroconf discovery as a process of its own, for the tests: `announcer.py CLUSTER NODE HOST PORT`.

Prints `found HOST:PORT` for each new candidate, and on SIGTERM ends as a node does: cancelled, with its goodbye said.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from random import SystemRandom

from cluster.address import Address
from cluster.discovery import Method, make_discovery


async def main(cluster: str, node: str, reached_at: Address) -> None:
    discovery = make_discovery(
        Method.ZEROCONF,
        cluster=cluster,
        node=node,
        reached_at=reached_at,
        poll_interval_s=0.5,
        log=logging.getLogger("announcer"),
        random=SystemRandom(),
    )
    known: set[Address] = set()

    def found(candidates: Sequence[Address]) -> None:
        for candidate in candidates:
            if candidate not in known:
                known.add(candidate)
                print(f"found {candidate.host_and_port}", flush=True)

    search = asyncio.ensure_future(discovery.run(found))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, search.cancel)
    print("started", flush=True)
    await asyncio.wait([search])
    if not search.cancelled():
        search.result()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(main(sys.argv[1], sys.argv[2], Address(sys.argv[3], int(sys.argv[4]))))

"""Host names to addresses, by the system's own means (`/etc/hosts`, DNS, whatever it is set up to use).

ZeroMQ would resolve a name itself, but it tries only the first of several addresses. And `loop.getaddrinfo` runs in the
loop's executor, whose threads are waited for when the program ends: one name server that does not answer would hold up
a stop for half a minute. So each look-up gets a daemon thread, which a stopping program leaves behind.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from cluster.address import Address

type Lookup = Callable[[str, int], Awaitable[Sequence[Address]]]
"""(host, port) to that port at each of the host's addresses; raises OSError if the name has none."""


async def look_up(host: str, port: int) -> Sequence[Address]:
    """All IPv4 and IPv6 addresses of `host`, each once, in the system's order of preference.

    Raises OSError if there are none. When cancelled it returns at once; the system's look-up ends by itself.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[Address]] = loop.create_future()

    def settle(addresses: Sequence[Address], error: OSError | None) -> None:
        if answer.done():  # cancelled meanwhile
            return
        if error is None:
            answer.set_result(addresses)
        else:
            answer.set_exception(error)

    def ask() -> None:
        addresses: Sequence[Address] = ()
        error: OSError | None = None
        try:
            addresses = _ask_system(host, port)
        except OSError as raised:
            error = raised
        except UnicodeError as raised:  # the resolver's way to refuse some names
            error = OSError(str(raised))
        with suppress(RuntimeError):  # the loop is closed, nobody waits any more
            loop.call_soon_threadsafe(settle, addresses, error)

    threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
    return await answer


def _ask_system(host: str, port: int) -> Sequence[Address]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(Address(found, port) for found in dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))

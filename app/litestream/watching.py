"""Beside a running Litestream: whether its address is still its node's."""

import os
import signal
import time

from app.errors import AddressUnusable
from app.litestream.address import Address

LOOK_FOR_PARENT_S = 1.0


def watch(address: Address, *, pid: int, claim: int, every_s: float) -> None:
    """Returns once process `pid`, which started this one, has ended. Raises AddressTaken, with that process told to end
    (SIGTERM), as soon as somebody claimed the address after `claim`.

    A store that cannot be reached is no news: Litestream says so itself.
    """
    look_at = time.monotonic() + every_s
    while os.getppid() == pid:
        if time.monotonic() >= look_at:
            look_at = time.monotonic() + every_s
            if not _is_still(address, claim):
                os.kill(pid, signal.SIGTERM)
                raise address.taken("was claimed by another node of this name, and this one ends")
        time.sleep(min(LOOK_FOR_PARENT_S, every_s))


def _is_still(address: Address, claim: int) -> bool:
    try:
        return address.is_still(claim)
    except AddressUnusable:
        return True

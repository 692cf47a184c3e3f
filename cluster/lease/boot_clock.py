"""A clock that nobody sets and that goes on while the machine is suspended."""

import time


def boot_clock_s() -> float:
    """Seconds since the machine started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

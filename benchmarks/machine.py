"""On what the figures were measured: enough to judge them, nothing that names the machine."""

import os
import platform
import sqlite3

import msgpack
import zmq


def shape() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.__version__,
        "msgpack": ".".join(map(str, msgpack.version)),
    }

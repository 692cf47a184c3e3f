"""What the demo starts: `litecast node`, in a process that does not outlive the demo, however that ends.

The demo holds the other end of this process's standard input. When that end closes, the demo is gone; so this works
wherever there are pipes. On Linux the kernel does the same at once, even to a process that does not run any more.
"""

import ctypes
import os
import signal
import sys
import threading

from app.cli import program

_PR_SET_PDEATHSIG = 1


def _die_with_the_demo() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, name="demo watch", daemon=True).start()


def _watch() -> None:
    # Not sys.stdin: a thread that holds its lock would be in the way when the interpreter ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _die_with_the_demo()
    program(["node", *sys.argv[1:]])

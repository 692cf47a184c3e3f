"""Becomes the program that `litecast run` starts: `python launch.py PARENT COMMAND ...`.

Between the two processes there has to be a moment in which the new one asks the kernel to be ended with its parent: a
node that is killed must not leave a program behind that goes on writing beside nobody, and that keeps its port from the
one that is started next. Only the process itself can ask for that, and Python has no safe place for it between fork and
exec in a parent that has threads. Run by its path, with the standard library alone: it takes some 30 ms.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_NOT_FOUND = 127
EXIT_NOT_EXECUTABLE = 126


def main(parent: int, command: list[str]) -> None:
    """Does not return. Exits as a shell does if there is no such program (127), or it cannot be run (126)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before it could be asked for
        sys.exit(128 + signal.SIGTERM)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"litecast: {command[0]} cannot be run: {error.strerror}\n")
        sys.exit(EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

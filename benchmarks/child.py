"""A process that a benchmark measures in or against: started with settings, asked by lines of JSON, always ended.

The other side of this is `benchmarks.ends.parent`. A child ends when its standard input does, so none outlives the
benchmark, however that ends.
"""

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
ANSWER_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0


class ChildFailed(Exception):
    """A child ended or did not answer; what it had to say stands on standard error."""


class Child:
    """`python -m benchmarks.ends.PROGRAM`. Its first line says where it is reached, and that it is ready."""

    def __init__(self, program: str, **settings: Any) -> None:
        self._program = program
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.ends.{program}", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then ends its children in order
        )
        try:
            self.ready = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """What the child answers. Raises ChildFailed."""
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise ChildFailed(f"{self._program} has ended") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], ANSWER_TIMEOUT_S)
        if not readable:
            raise ChildFailed(f"{self._program} did not answer within {ANSWER_TIMEOUT_S:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise ChildFailed(f"{self._program} has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def pair(program: str, **settings: Any) -> Iterator[Child]:
    """The near end of two processes that run the same program and are connected; the far end only answers it."""
    with ExitStack() as stack:
        far = stack.enter_context(Child(program, end="far", **settings))
        yield stack.enter_context(Child(program, end="near", far=far.ready, **settings))

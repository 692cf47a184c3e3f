"""An event loop on virtual time: nothing waits, nothing runs at once, and the same calls give the same order again.

What is ready runs in the order in which it became ready. When nothing is, time jumps to the next timer; timers of one
instant run in the order in which they were set. Sockets, processes and signals are refused, since their order is
nobody's to choose; what `asyncio.to_thread` would run beside runs whole, when its turn comes. Sets of tasks, which
asyncio itself walks through here and there, have one order too: a task's hash is its number.

A *life* is one run of one program. What is begun in a life belongs to it, by its context: tasks, timers, callbacks.
When it ends, nothing of it runs again, as nothing of a process does that was killed, and not as a task is cancelled,
which may still do this and that. A paused life is a stopped process: what becomes due waits, in order, until it goes
on. Whatever carries something from one life to another (a network) calls the other in the other's context.
"""

import asyncio
import contextlib
import contextvars
import heapq
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, Self, override

from replication.simulation.outside import NotSimulated, NoWorldOutside, SimulationError

log = logging.getLogger(__name__)

STEPS_MAX: Final = 200_000
"""So many callbacks at one instant are a circle: a busy second of a simulated cluster has some thousands."""
_TIMERS_KEPT: Final = 64  # cancelled ones
_TASKS_KEPT: Final = 64


class NothingWillHappen(SimulationError):
    """Something is awaited, and nothing is ready and no timer is set, nor ever will be."""


class Runaway(SimulationError):
    """Callbacks call each other without end, and time stands still."""


_life: contextvars.ContextVar["Life | None"] = contextvars.ContextVar("life", default=None)


class _Tasks:
    """Tasks: those that are not done, or whose error nobody has asked for yet, among them."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._room = _TASKS_KEPT

    def add(self, task: asyncio.Task[Any]) -> None:
        if len(self._tasks) >= self._room:
            self._tasks = [one for one in self._tasks if not one.done() or _holds_an_error(one)]
            self._room = max(_TASKS_KEPT, 2 * len(self._tasks))
        self._tasks.append(task)

    def close(self) -> None:
        """Ends them without another turn, in the order in which they were made. Nobody asks for their errors now."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            if _holds_an_error(task):
                task._log_traceback = False
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio.gather does
                coroutine = task.get_coro()
                if coroutine is not None:
                    with contextlib.suppress(Exception):
                        coroutine.close()


def _holds_an_error(task: asyncio.Task[Any]) -> bool:
    return bool(task._log_traceback)


class Life:
    """One run of a program on the loop. Made by `VirtualLoop.begin`."""

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.name = name
        self.is_over = False
        self.is_paused = False
        self.tasks = _Tasks()
        self._loop = loop
        self._waiting: deque[asyncio.Handle] = deque()
        self._context = contextvars.copy_context()
        self._context.run(_life.set, self)

    def __repr__(self) -> str:
        return f"<life of {self.name}>"

    def call[**P, T](self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Calls something now, as a part of this life."""
        return self._context.copy().run(call, *args, **named)

    def create_task[T](self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """A task of this life."""
        return self._loop.create_task(coroutine, name=name, context=self._context.copy())

    def pause(self) -> None:
        """Nothing of it runs until `resume`."""
        self.is_paused = True

    def resume(self) -> None:
        """What became due meanwhile runs now, in order."""
        self.is_paused = False
        waiting, self._waiting = self._waiting, deque()
        self._loop.take_back(waiting)

    def end(self) -> None:
        """Nothing of it runs again. Not to be called from within it: what it has on the stack cannot be ended.

        Its coroutines are closed, which runs their `finally` blocks: whatever those could reach must be out of reach
        before."""
        if not self.is_over:
            self.is_over = True
            self._waiting.clear()
            self.call(self.tasks.close)

    def wait(self, handle: asyncio.Handle) -> None:
        """The loop gives what became due during the pause."""
        self._waiting.append(handle)


class _Task[T](asyncio.Task[T]):
    """A task with its number for a hash, so that sets of tasks are in one order in every process."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        number: int,
        loop: "VirtualLoop",
        name: str | None,
        context: contextvars.Context | None,
    ) -> None:
        self._number = number  # first: what follows puts the task into a set
        super().__init__(coroutine, loop=loop, name=name or f"task {number}", context=context)

    def __hash__(self) -> int:
        return self._number


class _Timer(asyncio.TimerHandle):
    is_due = False
    """It is not among the timers any more."""


class VirtualLoop(NoWorldOutside):
    """See the module. `with VirtualLoop() as loop: loop.run_until_complete(main())`."""

    def __init__(self) -> None:
        self.unhandled: list[dict[str, Any]] = []
        """What came to the exception handler: errors that nobody caught, in asyncio's own form."""
        self.steps = 0
        """Callbacks that have run."""
        self._now_s = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._timer_number = 0
        self._timers_cancelled = 0
        self._task_number = 0
        self._tasks = _Tasks()  # of no life
        self._lives: list[Life] = []
        self._steps_here = 0
        self._is_running = False
        self._is_stopping = False
        self._is_closed = False
        self._thread = threading.get_ident()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- lives ---

    def begin(self, name: str) -> Life:
        """A new life."""
        life = Life(self, name)
        self._lives.append(life)
        return life

    def take_back(self, handles: deque[asyncio.Handle]) -> None:
        """A life that was paused gives back what waited."""
        self._ready.extend(handles)

    # --- time and calls (asyncio.AbstractEventLoop) ---

    @override
    def time(self) -> float:
        return self._now_s

    @override
    def call_soon[*Ts](
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    @override
    def call_later[*Ts](
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    @override
    def call_at[*Ts](
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Timer(when, callback, args, self, context)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, handle))
        return handle

    @override
    def call_soon_threadsafe[*Ts](
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._thread:
            raise NotSimulated("a call from another thread")
        return self.call_soon(callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: "_Timer") -> None:
        if handle.is_due:
            return
        self._timers_cancelled += 1
        if self._timers_cancelled > max(_TIMERS_KEPT, len(self._timers) // 2):
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    @override
    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    @override
    def create_task[T](
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: object,
    ) -> asyncio.Task[T]:
        assert isinstance(coro, Coroutine)
        self._task_number += 1
        task = _Task(coro, self._task_number, self, name, context)
        life = _life.get() if context is None else context.get(_life)
        (self._tasks if life is None else life.tasks).add(task)
        return task

    @override
    def run_in_executor[*Ts, T](  # type: ignore[override]
        self, executor: None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """What `asyncio.to_thread` asks for: the function runs here, whole, when its turn comes."""
        if executor is not None:
            raise NotSimulated("a thread of one's own")
        done: asyncio.Future[T] = self.create_future()

        def turn() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        self.call_soon(turn)
        return done

    # --- running ---

    @override
    def run_until_complete[T](self, future: Awaitable[T]) -> T:
        """Runs until it is done, and gives its result. Raises NothingWillHappen and Runaway, beside its own."""
        awaited = asyncio.ensure_future(future, loop=self)
        self._run(awaited.done, str(awaited))
        return awaited.result()

    @override
    def run_forever(self) -> None:
        """Runs until `stop`."""
        self._run(lambda: False, "run_forever")

    def _run(self, is_done: Callable[[], bool], awaited: str) -> None:
        if self._is_closed or self._is_running:
            raise RuntimeError("the loop is closed" if self._is_closed else "the loop is running")
        self._is_running, self._is_stopping = True, False
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while not is_done() and not self._is_stopping:
                self._step(awaited)
        finally:
            asyncio._set_running_loop(before)
            self._is_running = False

    def _step(self, awaited: str) -> None:
        if not self._ready:
            self._jump(awaited)
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        life = handle.get_context().get(_life)
        if life is not None:
            if life.is_over:
                return
            if life.is_paused:
                life.wait(handle)
                return
        self.steps += 1
        self._steps_here += 1
        if self._steps_here > STEPS_MAX:
            raise Runaway(f"{STEPS_MAX} callbacks at {self._now_s} s, and no end; the last one is {handle}")
        handle._run()

    def _jump(self, awaited: str) -> None:
        """To the next timer."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
            self._timers_cancelled -= 1
        if not timers:
            raise NothingWillHappen(f"at {self._now_s} s nothing is ready and no timer is set, waiting for {awaited}")
        if timers[0][0] > self._now_s:
            self._now_s = timers[0][0]
            self._steps_here = 0
        while timers and timers[0][0] <= self._now_s:
            _, _, handle = heapq.heappop(timers)
            handle.is_due = True
            if handle.cancelled():
                self._timers_cancelled -= 1
            else:
                self._ready.append(handle)

    @override
    def stop(self) -> None:
        self._is_stopping = True

    @override
    def is_running(self) -> bool:
        return self._is_running

    @override
    def is_closed(self) -> bool:
        return self._is_closed

    @override
    def close(self) -> None:
        """Ends whatever is left."""
        self._is_closed = True
        for life in self._lives:
            life.end()
        self._tasks.close()
        self._ready.clear()
        self._timers.clear()

    @override
    async def shutdown_asyncgens(self) -> None:
        """There is nothing to do: generators are left to their users."""

    @override
    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    # --- errors ---

    @override
    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.unhandled.append(context)
        log.error("%s", context.get("message"), exc_info=context.get("exception"))

    @override
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.default_exception_handler(context)

    @override
    def get_debug(self) -> bool:
        return False

    @override
    def set_debug(self, enabled: bool) -> None:
        """There is no debug mode."""

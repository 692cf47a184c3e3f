"""The bus between two processes: casts per second and call round trips, against what it is built on and without it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks.child import Child, pair
from benchmarks.measuring import AtLeast, AtMost, Benchmark, Comparison, Contestants, Figures
from cluster.security import make_secret

LITECAST_1 = "Litecast, one per turn"
LITECAST_100 = "Litecast, 100 per turn"
LITECAST_1000 = "Litecast, 1,000 per turn"
PYZMQ_100 = "pyzmq, one list of 100"
PYZMQ_1 = "pyzmq, one per send"
PYZMQ_ASYNCIO_100 = "zmq.asyncio, one list of 100"
PYZMQ_ASYNCIO_EACH_100 = "zmq.asyncio, cast by cast, 100 a frame"
PYZMQ_ASYNCIO_1 = "zmq.asyncio, one per send"
STREAMS_100 = "asyncio streams, one list of 100"
STREAMS_1 = "asyncio streams, one per write"
LITECAST_CURVE = "Litecast with CURVE, 1,000 per turn"
PYZMQ_CURVE = "pyzmq with CURVE, one list of 100"

LITECAST = "Litecast call"
PYZMQ = "pyzmq, blocking"
PYZMQ_ASYNCIO = "pyzmq in asyncio"
STREAMS = "asyncio streams"

RATE = "casts_per_s"


def casts(*, quick: bool) -> Benchmark:
    """Casts per second that arrived."""
    return Benchmark(
        name="casts",
        title="Casts of 199 bytes from process to process, counted where they arrive",
        rounds=3 if quick else 9,
        open=partial(_open_casts, 40_000 if quick else 200_000, 5_000 if quick else 20_000),
        comparisons=(
            Comparison(subject=LITECAST_1000, baseline=PYZMQ_100, figure=RATE, target=AtLeast(0.5)),
            Comparison(subject=LITECAST_100, baseline=PYZMQ_100, figure=RATE),
            Comparison(subject=LITECAST_1000, baseline=PYZMQ_ASYNCIO_EACH_100, figure=RATE, target=AtLeast(0.5)),
            Comparison(subject=LITECAST_1000, baseline=PYZMQ_ASYNCIO_100, figure=RATE),
            Comparison(subject=LITECAST_1000, baseline=STREAMS_100, figure=RATE),
            Comparison(subject=LITECAST_1, baseline=PYZMQ_1, figure=RATE),
            Comparison(subject=LITECAST_1, baseline=PYZMQ_ASYNCIO_1, figure=RATE),
            Comparison(subject=LITECAST_1, baseline=STREAMS_1, figure=RATE),
            Comparison(subject=LITECAST_1000, baseline=PYZMQ_1, figure=RATE),
            Comparison(subject=LITECAST_CURVE, baseline=PYZMQ_CURVE, figure=RATE),
        ),
    )


@contextmanager
def _open_casts(batched: int, single: int) -> Iterator[Contestants]:
    secret = make_secret()
    with ExitStack() as stack:
        litecast = stack.enter_context(pair("litecast_pair"))
        pyzmq = stack.enter_context(pair("pyzmq_pair"))
        pyzmq_asyncio = stack.enter_context(pair("pyzmq_asyncio_pair"))
        pyzmq_asyncio_each = stack.enter_context(pair("pyzmq_asyncio_pair", each=True))
        streams = stack.enter_context(pair("streams_pair"))
        litecast_curve = stack.enter_context(pair("litecast_pair", secret=secret))
        pyzmq_curve = stack.enter_context(pair("pyzmq_pair", secret=secret))
        yield {
            LITECAST_1000: _asking(litecast, casts=batched, burst=1_000),
            PYZMQ_100: _asking(pyzmq, casts=batched, batch=100),
            LITECAST_100: _asking(litecast, casts=batched, burst=100),
            PYZMQ_ASYNCIO_EACH_100: _asking(pyzmq_asyncio_each, casts=batched, batch=100),
            PYZMQ_ASYNCIO_100: _asking(pyzmq_asyncio, casts=batched, batch=100),
            STREAMS_100: _asking(streams, casts=batched, batch=100),
            LITECAST_1: _asking(litecast, casts=single, burst=1),
            PYZMQ_1: _asking(pyzmq, casts=single, batch=1),
            PYZMQ_ASYNCIO_1: _asking(pyzmq_asyncio, casts=single, batch=1),
            STREAMS_1: _asking(streams, casts=single, batch=1),
            LITECAST_CURVE: _asking(litecast_curve, casts=batched, burst=1_000),
            PYZMQ_CURVE: _asking(pyzmq_curve, casts=batched, batch=100),
        }


def calls(*, quick: bool) -> Benchmark:
    """Call round trips, one after another."""
    return Benchmark(
        name="calls",
        title="Round trip of a call of 199 bytes that is answered with the same",
        rounds=3 if quick else 9,
        open=partial(_open_calls, 500 if quick else 3_000),
        comparisons=(
            Comparison(subject=LITECAST, baseline=PYZMQ_ASYNCIO, figure="p50_us", target=AtMost(1.5)),
            Comparison(subject=LITECAST, baseline=PYZMQ_ASYNCIO, figure="p99_us"),
            Comparison(subject=LITECAST, baseline=PYZMQ, figure="p50_us"),
            Comparison(subject=LITECAST, baseline=PYZMQ, figure="p99_us"),
            Comparison(subject=LITECAST, baseline=STREAMS, figure="p50_us"),
            Comparison(subject=LITECAST, baseline=STREAMS, figure="p99_us"),
        ),
    )


@contextmanager
def _open_calls(count: int) -> Iterator[Contestants]:
    programs = {
        LITECAST: "litecast_pair",
        PYZMQ_ASYNCIO: "pyzmq_asyncio_pair",
        PYZMQ: "pyzmq_pair",
        STREAMS: "streams_pair",
    }
    with ExitStack() as stack:
        yield {name: _asking(stack.enter_context(pair(program)), calls=count) for name, program in programs.items()}


def _asking(child: Child, **request: object) -> Callable[[], Figures]:
    return partial(child.ask, **request)

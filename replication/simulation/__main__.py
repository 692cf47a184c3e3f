"""`python -m replication.simulation`: a campaign of many seeds, or one seed with its trace. `make sim` runs it."""

import argparse
import logging
import sys
import time

from replication.simulation.campaign import SEEDS_PER_PRIMARY, Campaign, Mode, Which, results, which_of
from replication.simulation.curve import COMMITS_PER_S, LATENCY_S, SIZES, measure
from replication.simulation.result import Result


def main() -> int:
    """The exit status: 0 if no seed failed, and if a campaign that is large enough reached all that it should."""
    parser = argparse.ArgumentParser(prog="python -m replication.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="run so many seeds")
    parser.add_argument("--from", type=int, default=0, metavar="K", dest="first", help="the first of them")
    parser.add_argument("--seed", type=int, metavar="K", help="run one seed, and print what happened")
    parser.add_argument("--curve", action="store_true", help="what clusters of 3 to 50 nodes cost, instead")
    parser.add_argument(
        "--mode",
        choices=[str(mode) for mode in Mode],
        help=f"which clusters; if none is named, a campaign has one of mode primary for each {SEEDS_PER_PRIMARY} seeds",
    )
    given = parser.parse_args()
    mode = None if given.mode is None else Mode(given.mode)
    if given.curve:
        return _curve()
    if given.seed is not None:
        return _replay(Which(given.seed, mode or Mode.CONVERGENT))
    return _campaign(range(given.first, given.first + given.seeds), mode)


def _curve() -> int:
    logging.disable(logging.WARNING)
    print(f"latency {LATENCY_S * 1000:g} ms, {COMMITS_PER_S} commits a second in all; frames are per node and second")
    print(f"{'nodes':>5} {'all joined':>11} {'nobody writes':>14} {'writing':>12} {'equal after':>12} {'(took)':>8}")
    for size in SIZES:
        point = measure(size)
        print(
            f"{point.nodes:5} {point.joined_s:9.2f} s {point.idle_frames:12.1f}/s {point.writing_frames:10.1f}/s "
            f"{point.equal_s * 1000:9.0f} ms {point.took_s:6.1f} s",
            flush=True,
        )
    return 0


def _replay(which: Which) -> int:
    seed, result = which.seed, which.run(traced=True)
    for line in result.trace:
        print(line)
    _print_failure(result)
    if not result.wrong:
        print(f"seed {seed}: all is well, equal {result.converged_s:.1f} s after everything was mended")
    return int(bool(result.wrong))


def _print_failure(result: Result) -> None:
    for wrong in result.wrong:
        print(f"seed {result.seed}: {wrong}")


def _campaign(seeds: range, mode: Mode | None) -> int:
    began_s = time.monotonic()
    campaign = Campaign()
    wanted = which_of(seeds, mode)
    for which, result in results(wanted):
        campaign.add(which, result)
        if result.wrong:
            _print_failure(result)
            print(f"{which} failed; see it again with: make sim {which.variables}", flush=True)
        if sys.stderr.isatty() and campaign.seeds % 10 == 0:
            print(f"\r{campaign.seeds} of {len(wanted)} seeds", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    for name, count in sorted(campaign.reached.items()):
        print(f"{count:9}  {name}")
    missed = campaign.missed()
    for path in missed:
        print(f"never reached: {path}")
    took_s = time.monotonic() - began_s
    print(
        f"{campaign.seeds} seeds from {seeds.start} ({campaign.of(Mode.PRIMARY)} of mode primary) in {took_s:.0f} s, "
        f"{len(campaign.failed)} failed; "
        f"equal at the latest {campaign.slowest_s:.1f} s of simulated time after everything was mended"
    )
    if campaign.failed:
        print(f"failed: {', '.join(map(str, campaign.failed))}")
    return int(bool(campaign.failed or missed))


if __name__ == "__main__":
    sys.exit(main())

"""The sentences that follow from what an act gave. Pure.

Nothing here is decided before it was measured: where nothing was lost, the text says so.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

from app.config.model import Mode
from app.demo.plan import Act
from app.demo.results import ActResult, broken_promises
from app.demo.story_convergent import convergent_sentences
from app.demo.story_naive import naive_sentences
from app.demo.story_primary import primary_closing, primary_sentences
from app.demo.wording import duration, listed, of_views, views, were

WHAT_HAPPENS: Mapping[Act, str] = {
    Act.ALONE: "The app runs on several nodes, each with its own SQLite file. Nothing is replicated.",
    Act.GENTLE: "Now every node tells all others what it writes: in mode naive the row as it is now, "
    "in mode convergent what was done to it. In mode primary one node writes for all. One view at a time.",
    Act.CONCURRENT: "The same, but visitors come to all nodes at the same time.",
    Act.ABSENT: "One node is killed, the others go on counting, and it comes back with its data.",
    Act.COLLISION: "Two nodes count the first view of the same page at the same moment.",
    Act.KILLED: "In mode primary one node writes for all. It is killed while the others forward what is written there.",
}


def traffic(runs: Sequence[ActResult]) -> str:
    """What all runs of an act had in common, in one sentence."""
    first = runs[0]
    counted = _counted(runs)
    match first.act:
        case Act.ALONE:
            return f"{counted} spread over {len(first.counts)} nodes, and nobody tells anybody."
        case Act.GENTLE:
            return f"{counted}, one at a time, each on another node than the last."
        case Act.CONCURRENT:
            return f"{counted} on all nodes at the same time, every one answered with 200."
        case Act.ABSENT:
            return f"{counted}, one at a time. Most of them came while {first.subject[0]} was away."
        case Act.COLLISION:
            again = f", {first.attempts} times over" if first.attempts > 1 else ""
            beside = ", while every node counted a page of its own" if first.pages_beside else ""
            return f"{' and '.join(first.subject)} counted a new page at the same moment{again}{beside}."
        case Act.KILLED:
            return f"{counted} on the nodes that do not write, before, while and after {first.subject[0]} was killed."
        case _:
            assert_never(first.act)


def sentences(result: ActResult) -> list[str]:
    """What became of a run, in one to three sentences, and one more for each thing that went otherwise than planned."""
    if result.act is Act.ALONE:
        told = _alone(result)
    elif result.mode == Mode.CONVERGENT:
        told = convergent_sentences(result)
    elif result.mode == Mode.PRIMARY:
        told = primary_sentences(result)
    else:
        told = naive_sentences(result)
    return [*told, *_uncertain(result), *result.notes]


def closing(results: Sequence[ActResult]) -> list[str]:
    """What the acts say together, a paragraph for each mode. Empty without any."""
    naive = [result for result in results if result.mode == Mode.NAIVE]
    kept = [
        line
        for mode, said in ((Mode.CONVERGENT, _convergent_closing), (Mode.PRIMARY, primary_closing))
        if (runs := [result for result in results if result.mode == mode])
        for line in (_broken_closing(mode, runs) or [said(runs)])
    ]
    return [*_naive_closing(naive), *kept]


def count_of(result: ActResult, node: str) -> str:
    """A node's count with what it misses: `288 (−12)`."""
    count = result.counts[node]
    missing = result.expected - count
    return f"{count:,}" if not missing else f"{count:,} ({-missing:+,})".replace("-", "−")


def outcome(result: ActResult) -> str:
    """What became of the counts of a run, in a few words: `170 lost, 10 apart`."""
    parts = [f"{result.lost:,} lost" if result.lost >= 0 else f"{-result.lost:,} too many"]
    if result.drift:
        parts.append(f"{result.drift:,} apart")
    if result.promises and result.pages_inexact:
        parts.append(f"{result.pages_inexact:,} other pages wrong")
    return ", ".join(parts)


def _counted(runs: Sequence[ActResult]) -> str:
    if len({run.expected for run in runs}) == 1:
        return views(runs[0].expected)
    return listed([f"{views(run.expected)} (mode {run.mode})" for run in runs])


def _alone(result: ActResult) -> list[str]:
    if not result.drift:
        return ["By chance, all nodes say the same. That is not because any of them knows the others."]
    differ = f"The nodes differ by {result.drift:,} at once"
    if result.lost <= 0:
        return [f"{differ}: all visitors came to one of them."]
    return [f"{differ}; the best of them misses {of_views(result.lost, result.expected)}."]


def _uncertain(result: ActResult) -> list[str]:
    told = []
    if result.refused:
        told.append(f"{views(result.refused)} {were(result.refused)} refused, and are not expected to be counted.")
    if result.unknown:
        told.append(f"Of {views(result.unknown)} nobody knows whether they were counted.")
        if not result.promises:
            told[-1] = f"{told[-1][:-1]}: what was lost can be up to {result.unknown:,} more."
    return told


def _naive_closing(results: Sequence[ActResult]) -> list[str]:
    if not results:
        return []
    lost = sum(max(result.lost, 0) for result in results)
    apart = sum(result.drift > 0 for result in results)
    if not lost and not apart:
        return ["This time naive replication lost nothing. More --clicks, or another run, may show what it can do."]
    viewed = sum(result.expected for result in results)
    told = f"Naive: {lost:,} of {views(viewed)} {were(lost)} lost, and {apart} of {len(results)} acts "
    told += "left the nodes different."
    if not any(result.refused or result.unknown for result in results):
        told += " Every view was answered with 200. No visitor was told that anything is wrong."
    return [told]


def _broken_closing(mode: Mode, results: Sequence[ActResult]) -> list[str]:
    """Nothing, if all is as promised."""
    broken = broken_promises(results)
    if not broken:
        return []
    acts = listed([f"act {result.act.value}" for result in broken])
    told = "; ".join(f"{outcome(result)} in act {result.act.value}" for result in broken)
    which = f"{mode.capitalize()}: the promise was broken in {acts}"
    return [f"{which}: {told}. This is a defect of Litecast: please report it."]


def _convergent_closing(results: Sequence[ActResult]) -> str:
    viewed = sum(result.expected for result in results)
    slowest = max((result.converged_s for result in results if result.converged_s is not None), default=None)
    told = f"Convergent: the same traffic, the same faults, one setting changed. 0 of {views(viewed)} were lost, "
    return (
        f"{told}and all nodes were equal at most {duration(slowest)} after the last view, or after the node was back."
    )

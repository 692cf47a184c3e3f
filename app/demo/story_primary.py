"""What became of an act's run in mode primary. Pure."""

from collections.abc import Sequence

from app.demo.plan import Act
from app.demo.results import ActResult
from app.demo.story_convergent import broken
from app.demo.wording import duration, views


def primary_sentences(result: ActResult) -> list[str]:
    """In one to three sentences. A run that did not end exact is told as what it is: a broken promise."""
    if not result.exact:
        return broken(result)
    says = f"Every node says {result.largest:,}."
    match result.act:
        case Act.KILLED:
            killed, successor = result.subject
            after = duration(result.takeover_s)
            told = [says, f"{killed} was killed with kill -9 while it wrote; after {after} {successor} wrote instead."]
            if result.refused == result.unknown == 0:
                told.append("The views that came meanwhile were held, and counted then.")
        case Act.COLLISION:
            told = [says, "Both inserts came to the same node, one after the other."]
        case _:
            told = [says]
    return [*told, *_price(result)]


def _price(result: ActResult) -> list[str]:
    """What it costs that one node writes."""
    there, elsewhere = result.answered_s
    if there is None or elsewhere is None or result.act is Act.KILLED:
        return []
    forwarded = f"on the others, which forward it and wait until they see it, after {duration(elsewhere)}"
    return [f"A view on {result.primary}, which writes, was answered after {duration(there)}; {forwarded}."]


def primary_closing(results: Sequence[ActResult]) -> str:
    """What the acts say together."""
    viewed = sum(result.expected for result in results)
    told = f"Primary: one node writes, the others forward. 0 of {views(viewed)} were lost"
    takeover = next((result.takeover_s for result in results if result.takeover_s is not None), None)
    if takeover is not None:
        told += f"; when the primary was killed, nobody could write for {duration(takeover)}"
    return f"{told}."

"""What became of an act's run in mode convergent. Pure."""

from app.demo.plan import Act
from app.demo.results import ActResult
from app.demo.wording import of_views, views, were


def convergent_sentences(result: ActResult) -> list[str]:
    """In one to three sentences. A run that did not end exact is told as what it is: a broken promise."""
    return _kept(result) if result.exact else _broken(result)


def _kept(result: ActResult) -> list[str]:
    says = f"Every node says {result.largest:,}"
    match result.act:
        case Act.CONCURRENT:
            told = [f"{says}. What travels is how much each node has added, and all of that is added up."]
        case Act.ABSENT:
            told = [f"{says}. {result.subject[0]} asked for what it had missed, and a peer had kept it."]
        case Act.COLLISION:
            beside = ", on the other pages too" if result.pages_beside else ""
            told = [f"{says}. Two inserts of a page become one row, and what was counted is added up{beside}."]
        case _:
            told = [f"{says}."]
    if result.crashes:
        told.append(f"All the same, {result.crashes} actors crashed, which they should not.")
    return told


def _broken(result: ActResult) -> list[str]:
    told = ["This must not happen."]
    if result.lost > 0:
        told.append(f"{of_views(result.lost, result.expected)} {were(result.lost)} lost on every node.")
    elif result.lost + result.unknown < 0:
        told.append(f"There are {views(-result.lost)} more than were answered.")
    if result.drift:
        told.append(f"The nodes end {result.drift:,} apart.")
    if result.pages_inexact:
        told.append(f"{result.pages_inexact:,} other pages are not what they must be on every node.")
    return told

"""What became of an act's run in mode convergent. Pure."""

from app.demo.plan import Act
from app.demo.results import ActResult
from app.demo.wording import of_views, views, were


def convergent_sentences(result: ActResult) -> list[str]:
    """In one to three sentences. A run that did not end exact is told as what it is: a broken promise."""
    return _kept(result) if result.exact else broken(result)


def _kept(result: ActResult) -> list[str]:
    says = f"Every node says {result.largest:,}"
    match result.act:
        case Act.CONCURRENT:
            told = [f"{says}. What travels is how much each node has added, and all of that is added up."]
        case Act.ABSENT:
            told = [f"{says}."]
            if result.asks:
                told.append(f"{result.subject[0]} asked for what it had missed, and a peer had kept it.")
        case Act.COLLISION:
            told = [f"{says}."]
            if result.collisions:
                told.append("Two inserts met here as well: they became one row, and what they counted was added up.")
            else:
                told.append("No insert met another: whoever was a little later had the other's row already.")
            if result.pages_beside:
                told.append("No view of the other pages was lost, either.")
        case _:
            told = [f"{says}."]
    if result.crashes:
        told.append(f"All the same, {result.crashes} actors crashed, which they should not.")
    return told


def broken(result: ActResult) -> list[str]:
    """What is wrong with a run that did not end exact, though its mode promises that."""
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

"""What became of an act's run in mode naive. Pure."""

from app.demo.plan import Act
from app.demo.results import ActResult
from app.demo.wording import casts, of_views, ordinal, views, were


def naive_sentences(result: ActResult) -> list[str]:
    """In one to three sentences."""
    match result.act:
        case Act.CONCURRENT:
            return _concurrent(result)
        case Act.ABSENT:
            return _absent(result)
        case Act.COLLISION:
            return _collision(result)
        case _:
            return _gentle(result)


def _gentle(result: ActResult) -> list[str]:
    if not result.lost and not result.drift:
        return [f"Every node says {result.largest:,}. This is what convinces everybody."]
    if result.drift:
        lost = max(result.lost, 0)
        return [f"Even so, the nodes differ by {result.drift:,}, and {views(lost)} {were(lost)} lost."]
    return [f"The nodes agree, but {of_views(result.lost, result.expected)} {were(result.lost)} lost."]


def _concurrent(result: ActResult) -> list[str]:
    apart = f"The nodes end {result.drift:,} apart" if result.drift else "The nodes end equal"
    if result.lost > 0:
        why = "Two nodes read the same count, add one, and send each other the same sum: one of the views is gone."
        link = "and" if result.drift else "but"
        return [f"{apart}, {link} the best of them has lost {of_views(result.lost, result.expected)}.", why]
    if result.drift:
        return [f"{apart}, although one of them knows of every view."]
    return ["Nothing was lost this time, and the nodes agree. Concurrency is luck: try more --clicks."]


def _absent(result: ActResult) -> list[str]:
    victim = result.subject[0]
    behind = max((result.largest - result.counts[node] for node in result.subject), default=0)
    if behind <= 0:
        return [f"{victim} was killed and came back, and this time it is not behind."]
    told = f"{victim} came back and says {result.counts[victim]:,}: {behind:,} fewer than the others."
    why = "Newer casts reach it, but nobody kept what it missed, and it does not ask."
    if not result.dropped:
        why += " Nothing counts as dropped: nobody casts to a node that is not there."
    if result.lost > 0:
        return [told, why, f"Besides, {of_views(result.lost, result.expected)} {were(result.lost)} lost on every node."]
    return [told, why]


def _collision(result: ActResult) -> list[str]:
    if not result.crashes:
        return ["No insert collided: whoever was a little later had the other's row already."]
    crashed = "one actor" if result.crashes == 1 else f"{result.crashes} actors"
    at_last = f" at the {ordinal(result.attempts)} attempt" if result.attempts > 1 else ""
    told = f"Each inserted the page and cast the insert. The row was there already, so {crashed} crashed{at_last}"
    if not result.dropped:
        return [f"{told}. The mailboxes happened to be empty: no other cast was lost with them."]
    told += f", and with the mailboxes went {casts(result.dropped)}."
    if not result.pages_apart:
        return [told]
    return [told, f"{result.pages_apart} of {result.pages_beside} other pages differ now for want of them."]

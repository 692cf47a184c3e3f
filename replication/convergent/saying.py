"""What a person is told about how replication stands. Pure."""

from collections.abc import Mapping, Sequence

from replication.convergent.store import View
from replication.engine import forwarded
from replication.engine.closing import branches
from replication.engine.epochs import epoch_of
from replication.engine.stamps import Site, Stamp


def forgotten_said(peer: str) -> str:
    """What to do on a node of which `peer` says that it was forgotten."""
    return (
        f"this node was forgotten, says {peer}: what it has cannot be merged any more. "
        "Stop it, move its database away, and start it without one: it copies a peer's. What it wrote "
        "since is in the old file"
    )


def tail_said(tail: Mapping[Site, Stamp]) -> str:
    """What is to be known of a node that has a tail."""
    epochs = ", ".join(str(epoch) for epoch in sorted({epoch_of(site) for site in tail}))
    return (
        f"this node has what was written in epoch {epochs} after another one had begun: a tail, which is kept here and "
        "merged nowhere"
    )


def notes(
    view: View, ahead: Sequence[str], differing: Mapping[str, Sequence[str]], under_way: str = ""
) -> tuple[str, ...]:
    """What a person should look at. `ahead`: about a clock far ahead; `differing`: peers with other schemas;
    `under_way`: what takes long just now, "" if nothing does."""
    return (
        *([under_way] if under_way else ()),
        *ahead,
        *(f"not replicated: {refusal}" for refusal in view.refusals),
        *(_differing_said(peer, tables) for peer, tables in differing.items()),
        *(
            f"site {site} was forked, {len(branches(tips))} branches are merged"
            for site, tips in view.closed.items()
            if len(branches(tips)) > 1
        ),
    )


def _differing_said(peer: str, tables: Sequence[str]) -> str:
    if forwarded.TABLE in tables:  # only where one node writes at a time is there such a table
        return (
            f"{peer} runs in the other one of the modes convergent and primary, so what is written does not come "
            "together: set [replication] mode alike on all nodes"
        )
    return f"{peer} has another schema of {', '.join(tables)}"

"""What a person is told about how replication stands. Pure."""

from collections.abc import Mapping, Sequence

from replication.convergent.store import View
from replication.engine.closing import branches


def forgotten_said(peer: str) -> str:
    """What to do on a node of which `peer` says that it was forgotten."""
    return (
        f"this node was forgotten, says {peer}: what it has cannot be merged any more. "
        "Stop it, move its database away, and start it without one: it copies a peer's. What it wrote "
        "since is in the old file"
    )


def notes(view: View, ahead: Sequence[str], differing: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What a person should look at. `ahead`: about a clock far ahead; `differing`: peers with other schemas."""
    return (
        *ahead,
        *(f"not replicated: {refusal}" for refusal in view.refusals),
        *(f"{peer} has another schema of {', '.join(tables)}" for peer, tables in differing.items()),
        *(
            f"site {site} was forked, {len(branches(tips))} branches are merged"
            for site, tips in view.closed.items()
            if len(branches(tips)) > 1
        ),
    )

"""What was in the bucket after it was kept last: so that what goes missing is missed. Pure.

A chain of changesets shows a gap where it is read, but not that its end is gone, nor what stood in the gap. An
inventory names it. Each has a number, and is created only if absent; the last two stay. Restoring needs none."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from replication.backup.envelope import BadEnvelope, seal, unseal
from replication.backup.names import NUMBER_MAX, Stretch, of_stretch, stretch_of
from replication.engine.received import Malformed, fields, listed, name, text, whole

FORM: Final = 1
INVENTORY_MAX_BYTES: Final = 256 * 1024 * 1024
_OBJECTS_MAX: Final = 5_000_000
_MS_MAX: Final = 2**48


class BadInventory(ValueError):
    """The bytes are no inventory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """`written_ms`: by the clock of the node that wrote it. `snapshots`: the numbers of those that are complete."""

    cluster: str
    number: int
    node: str
    written_ms: int
    snapshots: tuple[int, ...]
    changesets: tuple[Stretch, ...]


def encode(inventory: Inventory) -> bytes:
    """The object's bytes."""
    content = {
        "form": FORM,
        "cluster": inventory.cluster,
        "number": inventory.number,
        "node": inventory.node,
        "written_ms": inventory.written_ms,
        "snapshots": list(inventory.snapshots),
        "changesets": [of_stretch(one) for one in inventory.changesets],
    }
    return seal(json.dumps(content, indent=0).encode())


def decode(sealed: bytes) -> Inventory:
    """What the object says. Raises BadInventory, and nothing else, if it is none."""
    try:
        content = json.loads(unseal(sealed, max_bytes=INVENTORY_MAX_BYTES))
        form = content.get("form") if isinstance(content, dict) else None
        if form != FORM:
            raise BadInventory(f"has form {str(form)[:20]}, and form {FORM} is known; upgrade litecast")
        return _inventory(content)
    except BadInventory:
        raise
    except (BadEnvelope, Malformed) as error:
        raise BadInventory(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadInventory(f"is not JSON as it was written ({type(error).__name__})") from error


def _inventory(content: object) -> Inventory:
    _, cluster, number, node, written_ms, snapshots, changesets = fields(
        content, "form", "cluster", "number", "node", "written_ms", "snapshots", "changesets"
    )
    return Inventory(
        cluster=name(cluster),
        number=whole(number, low=1, high=NUMBER_MAX),
        node=name(node),
        written_ms=whole(written_ms, low=0, high=_MS_MAX),
        snapshots=tuple(whole(one, low=1, high=NUMBER_MAX) for one in listed(snapshots, at_most=_OBJECTS_MAX)),
        changesets=tuple(_stretches(listed(changesets, at_most=_OBJECTS_MAX))),
    )


def _stretches(names: Iterable[object]) -> Iterable[Stretch]:
    for one in names:
        found = stretch_of(text(one, at_most=200))
        if found is None:
            raise Malformed("not the name of an object with changesets")
        yield found

"""A grant as it stands in a store: a small JSON object that a person can read, and the checks before it is believed."""

import json
from dataclasses import dataclass
from typing import Any, Final

from cluster.errors import LeaseForeign, LeaseOfAnotherCluster
from cluster.lease.interface import EPOCH_MAX

RECORD_MAX_BYTES: Final = 4096
_WHAT: Final = "litecast lease"
_VERSION: Final = 1
_TTL_MAX_S: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`nonce` is another one each time that it is written: what is written anew is seen to be new."""

    cluster: str
    node: str
    epoch: int
    ttl_s: float
    nonce: str
    is_released: bool = False
    successor: str | None = None

    def encoded(self) -> bytes:
        """As it is stored."""
        return json.dumps(
            {
                "what": _WHAT,
                "version": _VERSION,
                "cluster": self.cluster,
                "node": self.node,
                "epoch": self.epoch,
                "ttl_s": self.ttl_s,
                "nonce": self.nonce,
                "released": self.is_released,
                "successor": self.successor,
            },
            indent=1,
        ).encode()


def decode(content: bytes, *, place: str, cluster: str) -> Record:
    """The record in an object. `place` names the object for people. Raises LeaseForeign and LeaseOfAnotherCluster."""
    found = _parsed(content)
    if found is None:
        raise LeaseForeign(place)
    if found.cluster != cluster:
        raise LeaseOfAnotherCluster(place, found.cluster[:80], cluster)
    return found


def _parsed(content: bytes) -> Record | None:
    if len(content) > RECORD_MAX_BYTES:
        return None
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    match value:
        case {
            "what": "litecast lease",
            "version": 1,
            "cluster": str(cluster),
            "node": str(node),
            "epoch": int(epoch),
            "ttl_s": int() | float() as ttl_s,
            "nonce": str(nonce),
            "released": bool(released),
            "successor": str() | None as successor,
        } if type(epoch) is int and 1 <= epoch <= EPOCH_MAX and 0 < ttl_s <= _TTL_MAX_S:
            return Record(
                cluster=cluster,
                node=node,
                epoch=epoch,
                ttl_s=float(ttl_s),
                nonce=nonce,
                is_released=released,
                successor=successor,
            )
        case _:
            return None

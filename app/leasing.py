"""The lease of a node in mode primary, from its settings."""

import os
from dataclasses import dataclass

from app.config import Config, LeaseProvider
from cluster.lease.boot_clock import boot_clock_s
from cluster.lease.interface import Lease
from cluster.lease.object_store import ObjectStoreLease
from cluster.lease.objects import StoredObjects
from cluster.lease.static import StaticLease

_NONCE_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """`candidate`: whether this node stands for the lease."""

    lease: Lease
    candidate: bool


def lease_for(config: Config) -> Leased:
    """Asks nobody yet. Raises LeaseUnusable for a url that names no store."""
    lease, node = config.lease, config.node
    is_here = lease.region is None or node.region == lease.region
    if lease.provider is LeaseProvider.STATIC:
        primary = lease.primary or (node.name if is_here else f"a node in region {lease.region}")
        return Leased(
            lease=StaticLease(node=node.name, primary=primary),
            candidate=lease.candidate and primary == node.name,
        )
    assert lease.url is not None, "an object store has a url"
    return Leased(
        lease=ObjectStoreLease(
            StoredObjects(lease.url),
            cluster=config.cluster.name,
            node=node.name,
            ttl_s=lease.ttl_s,
            clock=boot_clock_s,
            nonce=lambda: os.urandom(_NONCE_BYTES).hex(),
        ),
        candidate=lease.candidate and is_here,
    )

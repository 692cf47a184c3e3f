"""The lease of a node in mode primary, from its settings."""

import os
from dataclasses import dataclass

from app.config import Config, LeaseProvider
from cluster.lease.boot_clock import boot_clock_s
from cluster.lease.consul import ConsulLease, consul_place
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
    candidate = lease.candidate and is_here
    if lease.provider is LeaseProvider.CONSUL:
        consul = ConsulLease(
            consul_place(lease.url, os.environ),
            cluster=config.cluster.name,
            node=node.name,
            ttl_s=lease.ttl_s,
            clock=boot_clock_s,
            nonce=_nonce,
        )
        return Leased(lease=consul, candidate=candidate)
    assert lease.url is not None, "an object store has a url"
    stored = ObjectStoreLease(
        StoredObjects(lease.url),
        cluster=config.cluster.name,
        node=node.name,
        ttl_s=lease.ttl_s,
        clock=boot_clock_s,
        nonce=_nonce,
    )
    return Leased(lease=stored, candidate=candidate)


def _nonce() -> str:
    return os.urandom(_NONCE_BYTES).hex()

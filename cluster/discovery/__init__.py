"""Ways to find the addresses of other nodes: a list, DNS, or multicast DNS on the local network."""

from cluster.discovery.factory import POLL_INTERVAL_S, Method, make_discovery
from cluster.discovery.interface import Discovery, Found

__all__ = ["POLL_INTERVAL_S", "Discovery", "Found", "Method", "make_discovery"]

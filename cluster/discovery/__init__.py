"""Ways to find the addresses of other nodes: a list, DNS, or multicast DNS on the local network."""

from cluster.discovery.interface import Discovery, Found

__all__ = ["Discovery", "Found"]

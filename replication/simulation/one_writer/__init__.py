"""Simulated clusters of mode primary: a lease in a store that fails, sessions on all nodes, and what must hold."""

"""`litecast run`: any program beside a node, started when the node has caught up, and ended with it."""

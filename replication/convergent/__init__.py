"""The runtime of convergent mode: a worker a node, which folds, casts, merges, catches up. See `replication.py`."""

"""The runtime of convergent mode: one worker a node, which folds, casts, merges and catches up. See `replication.py`."""

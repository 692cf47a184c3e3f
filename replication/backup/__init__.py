"""A backup in a bucket: a peer that is slow and never forgets. Any number of nodes write to it; any of them, or all,
come back from it. See `docs/decisions/0021-backup.md`."""

"""Keeps databases equal: the Repo, and the modes of replication. Knows the cluster, not the app. See DESIGN.md."""

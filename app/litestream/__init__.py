"""Litestream around a node: whose address in a bucket is whose. See docs/litestream.md."""

"""The change feed: what changed in a table here, in the order in which this node came to know of it. See DESIGN.md."""

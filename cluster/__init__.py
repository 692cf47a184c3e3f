"""Who is there and how to reach them: actors, bus, discovery, membership. Knows nothing of SQL. See `DESIGN.md`."""

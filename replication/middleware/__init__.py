"""Middleware for web programs beside a node in mode primary: whole requests go where they may write.

A program shares nothing with its node but the database file and what the node says beside it (`node_file`).
`routing` decides, and does nothing; `replication.file_position` reads how far the file is; `token` is what a client
carries along; `asgi` and `wsgi` are the two faces."""

"""Attach, capture, fold and merge, as functions on SQLite connections. No network, no threads, no clock of its own."""

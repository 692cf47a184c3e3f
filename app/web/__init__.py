"""The node's web face: the counter, the JSON API, the live page, health and metrics."""

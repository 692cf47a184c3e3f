"""`litecast bench`: what a cluster across the world costs and saves, measured on this machine."""

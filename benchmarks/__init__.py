"""What the bus and the Repo cost, measured against the bare libraries in the same run: `make bench`."""

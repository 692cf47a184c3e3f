"""The programs that `benchmarks.child` runs, each in a process of its own."""

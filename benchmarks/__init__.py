"""How fast it is, beside what it is built on: `python -m benchmarks`, or `make bench`.

Every figure is measured beside its baseline in the same run, turn by turn, since what a shared machine does differs
from minute to minute by more than the things compared. `docs/benchmarks.md` says what the figures mean.
"""

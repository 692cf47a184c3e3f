"""Drift as a number: nodes ask each other what they hold, in every mode. See `meter.py`."""

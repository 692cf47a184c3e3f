"""The lease of primary mode: who may write, until when, and under which epoch. It knows nothing of SQL."""

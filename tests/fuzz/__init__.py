"""Damaged input for everything that reads a user's disk; `python -m tests.fuzz.mutate` runs it in full."""

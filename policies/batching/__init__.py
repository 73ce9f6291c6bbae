"""Batches: in which queue their requests wait, by which plan they are answered, and how many are in flight."""

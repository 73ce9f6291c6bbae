"""Measures the time of engines' steps for `penstock engine profile`; the simulation reads the result."""

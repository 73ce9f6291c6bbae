"""Recorded traffic through the pure cores on a virtual clock: for `penstock policy simulate`."""

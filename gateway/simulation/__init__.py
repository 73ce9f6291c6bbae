"""Replays recorded traffic through the house's own pure cores on a virtual clock: `penstock policy simulate`."""

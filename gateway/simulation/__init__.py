"""Replays recorded traffic through the service's own pure cores on a virtual clock: `penstock policy simulate`."""

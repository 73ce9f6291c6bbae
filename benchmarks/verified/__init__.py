"""Benchmarks of verified mode on the embedded models: `python -m benchmarks.verified identity|speed|acceptance`."""

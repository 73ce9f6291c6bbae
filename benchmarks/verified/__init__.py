"""What verified mode is worth on the embedded pair: `python -m benchmarks.verified identity|speed|acceptance`."""

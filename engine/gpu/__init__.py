"""GPU-specific parts: Triton code, the division of attention, sizes of graphs, asynchronous copies."""

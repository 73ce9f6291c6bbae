"""GPU-specific parts: Triton kernels, CUDA graphs, asynchronous copies."""

"""What only a GPU needs: Triton kernels, graphs, copies that nobody waits for."""

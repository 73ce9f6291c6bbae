"""Kernels of the decoder: matrix products and the operations between them, compiled for the CPU or in plain torch."""

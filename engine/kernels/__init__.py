"""Kernels compiled for the processor, the memory that they read, and tiles of constant shape in plain torch."""

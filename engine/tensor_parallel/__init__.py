"""Tensor parallelism: one model computed by several processes."""

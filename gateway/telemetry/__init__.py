"""Metrics as Prometheus text, and logs."""

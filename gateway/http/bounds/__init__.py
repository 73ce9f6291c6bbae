"""Limits for each peer and each key: connections, bytes, seconds. Pure."""

"""Answers as bodies, server-sent events and headers."""

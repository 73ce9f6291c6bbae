"""Answers as response bodies, server-sent events and headers."""

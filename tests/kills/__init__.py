"""Kills at random moments under mixed load, each of which can be repeated by its seed and number."""

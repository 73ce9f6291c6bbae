"""Configurations that come with Penstock."""

from pathlib import Path


def embedded_profile() -> Path:
    """The one that serves when no --config is given."""
    return Path(__file__).with_name("embedded.toml")

"""Configurations that come with Penstock."""

from pathlib import Path


def embedded_profile() -> Path:
    """The one that serves when no --config is given."""
    return Path(__file__).with_name("embedded.toml")


STARTERS = ("one-model", "small-and-large", "in-front-of-vllm")
"""What `penstock init` can write."""


def starter(kind: str) -> str:
    """The text of one of `STARTERS`, with fields for `str.format`."""
    return (Path(__file__).parent / "starters" / f"{kind}.toml").read_text(encoding="utf-8")

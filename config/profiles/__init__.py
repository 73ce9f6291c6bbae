"""Configurations that are shipped with Penstock."""

from pathlib import Path


def embedded_profile() -> Path:
    """The configuration that is used without --config."""
    return Path(__file__).with_name("embedded.toml")


STARTERS = ("one-model", "small-and-large", "in-front-of-vllm")
"""The configurations that `penstock init` can create."""


def starter(kind: str) -> str:
    """The TOML template of one of `STARTERS`, for `str.format`."""
    return (Path(__file__).parent / "starters" / f"{kind}.toml").read_text(encoding="utf-8")

"""Where things stand, whatever folder a test is in."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ZOO_MODELS = ROOT / "engine/zoo/models"
"""The embedded pair of models."""

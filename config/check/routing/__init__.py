"""Checks routes, cascades, ladders, experiments and shadows."""

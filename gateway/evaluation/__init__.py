"""Runs both models of a cascade on the same prompts, for `penstock policy calibrate` and `policy eval`."""

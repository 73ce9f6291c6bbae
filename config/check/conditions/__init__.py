"""Conditions: each by itself, and what all of them together leave over or never reach."""

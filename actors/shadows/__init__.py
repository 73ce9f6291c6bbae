"""Copies of requests whose answers no client sees.

Public: `shadows.Shadows`.
"""

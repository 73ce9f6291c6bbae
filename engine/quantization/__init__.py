"""Weights as integers of 8 or 4 bits: rounded, saved, loaded, multiplied with."""

"""The cascade from a small to a large model: deferral statistics, calibration, and what may be released when."""

"""Tools for policy authors: explanations, policy tests, comparisons of policies, calibration fits.

Commands and the simulation use this package; serving requests does not.
"""

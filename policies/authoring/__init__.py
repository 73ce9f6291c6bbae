"""Tools for policy authors: explanations, policy tests, comparisons of policies, calibration fits.

Only commands and the admin API use this package; the request path does not.
"""

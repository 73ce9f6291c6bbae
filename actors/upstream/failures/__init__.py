"""What can go wrong with a call to an upstream: whose fault it is, how long to wait, and what may be told. Pure.

Public: all modules.
"""

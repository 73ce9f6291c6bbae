"""From features and load to a plan: conditions, routes, and the measures that conditions look at.

Public: `policy.Policy`, which uses the others; `decision`.
"""

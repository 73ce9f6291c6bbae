"""Makes a plan from a request's features and the live load: conditions, route matching, feature extraction.

The entry points are `policy.Policy` and `policy.make_plan`.
"""

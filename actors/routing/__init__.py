"""The inputs of `policies.routing.planner`: features, the compiled policy, the live load.

Public: `router`; the functions of `features`.
"""

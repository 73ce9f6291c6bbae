"""From a request's features and the load to its plan and what is reserved for it.

Public: `planner.decide`, which everybody who decides calls; `policy.Policy`, which it decides by; `busy`, `conditions`
and the measures that conditions look at.
"""

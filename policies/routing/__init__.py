"""From a request's features and the load to its plan and what is reserved for it.

Public: `planner.decide`, which every caller uses; `policy.Policy`, its compiled policy; `busy`, `conditions` and the
measures that conditions use.
"""

"""What `policies.routing.planner` decides by, fetched: features, the compiled policy, the live load.

Public: `router.Router`; the functions of the other modules.
"""

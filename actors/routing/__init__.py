"""From a request to its plan: features, the compiled policy, the live load, and the token budget.

Public: `router.Router`; the functions of the other modules.
"""

"""Circuit breakers and the retry budget, owned by one actor.

Public: `breakers`.
"""

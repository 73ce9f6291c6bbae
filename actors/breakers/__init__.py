"""Circuit breakers and the retry budget: one actor owns them, `permits` asks it.

Public: `breakers.Breakers`, `permits.Permits`.
"""

"""Messages between actors, one module for each that receives them, and how an answer's outputs reach their reader.

Public within `actors`: `admission`, `breakers`, `ledger`, `queue`, `engine`, `reloader`; `job`, which the queue and the
engines hand on; `outputs` and the slot that holds them, `delivery`.
"""

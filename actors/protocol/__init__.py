"""Messages between actors, and the slot through which an answer's outputs reach their reader.

Public within `actors`: `admission`, `ledger`, `job` (for the dispatcher and the backends' actors), `delivery`. Messages
with one sender stand with the actor that handles them.
"""

"""The ledger: usage in a SQLite file, and the actor that writes it.

Public: `ledger`, `store`.
"""

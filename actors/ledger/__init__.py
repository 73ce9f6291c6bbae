"""Usage, written down: the ledger's actor and its SQLite file.

Public: `ledger.Ledger`, `store`, `lock`.
"""

"""Quotas and budgets: one actor reserves the worst case of each request and settles what it used.

Public: `admission.Admission`.
"""

"""Failures of upstream calls: classification, pauses to honour, and redaction of the upstream's text. Pure.

Public: all modules.
"""

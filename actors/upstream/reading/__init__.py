"""Parsing of responses of OpenAI-compatible servers, in all known variants. Sans-IO.

Public: `response_reader`, which uses the others.
"""

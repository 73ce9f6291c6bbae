"""The base of every actor: mailboxes, replies, supervision, timers, and threads beside the event loop.

Public: all modules. None of them knows of requests.
"""

"""What every actor stands on: mailboxes, replies, supervision, timers, and threads beside the event loop.

Public: all modules. Nothing in here knows of requests.
"""

"""One request from admission to its last event.

It runs in the task of whoever reads it, and owns nothing that is shared.

Public: `request_admission`, `response_stream`.
"""

"""One request from admission to its last event.

It runs in the task that reads the answer, and owns no shared state.

Public: `request_admission`, `response_stream`.
"""

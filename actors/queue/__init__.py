"""Jobs on their way to the backends: the dispatcher drives a `policies.queueing.backend_queue` for each backend.

Public: `dispatcher`.
"""

"""Jobs on their way into the backends: the dispatcher drives a `policies.queueing.backend_queue` for each of them.

Public: `dispatcher.Dispatcher`, `backend`.
"""

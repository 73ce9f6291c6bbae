"""Fair queues in front of each backend, and when work leaves them for which replica.

Public: `dispatcher.Dispatcher`, `backend_queue`, `replica_slot`.
"""

"""A recording of the traffic for `penstock policy simulate`.

Public: `recorder.Recorder`.
"""

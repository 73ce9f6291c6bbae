"""What the API's description says of each address: an `Operation` for each, in the file of its API.

A new address: add its `Operation` here; `tests/gateway/endpoints/operations/` fails until it is there, and sends its
examples.
"""

"""What answers at each address.

Public: `routes.Routes`, which uses the others.
"""

"""Penstock as a gateway in front of another server, beside other gateways and a bare TCP relay."""

"""Load generation that sees the service from outside only."""

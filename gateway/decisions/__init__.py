"""`/v1/decisions`: its bodies and answers."""

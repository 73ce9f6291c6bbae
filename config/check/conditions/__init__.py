"""Checks conditions one by one, and finds routes and signals that can never hold or be reached."""

"""Inputs and outputs of decisions: a request's features, the live load, the plan."""

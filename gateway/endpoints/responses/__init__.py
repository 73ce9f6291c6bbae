"""The addresses of the Responses API."""

"""Responses and conversations that clients come back to: an SQLite store in a thread, and how it is asked."""

"""Changing the policy while it serves: the reloader, its published status, and the admin API's service.

Public: all modules.
"""

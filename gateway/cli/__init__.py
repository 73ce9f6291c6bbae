"""The command `penstock`, one module for each subcommand.

Public: `main.main`.
"""

"""The command `penstock`: one module for each command.

Public: `main.main`.
"""

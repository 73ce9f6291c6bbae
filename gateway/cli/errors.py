"""Errors of the commands.

CliError        one line for a person; `status` is the exit code
leaves          what went wrong, out of trio's nested groups
"""

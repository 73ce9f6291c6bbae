"""What the commands say when they cannot go on.

CliError        one line for a person; `status` is the exit code
leaves          what went wrong, out of trio's nested groups
"""

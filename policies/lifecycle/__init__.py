"""How the process and its parts start, restart, reload and end."""

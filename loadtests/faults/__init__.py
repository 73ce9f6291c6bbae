"""Faults on a schedule: signals to processes, a proxy that breaks, a reload. Everything is undone at the end."""

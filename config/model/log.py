"""Settings of the log."""

from config.model.table import Table


class LogSettings(Table, frozen=True):
    """What is logged in addition to the server's own events."""

    requests: bool = True
    """Log an event `request_finished` for every request, however it ends: tenant, rungs, reasons, tokens, times and
    cost, but no text."""

"""What is logged beside events of the server itself."""

from config.model.table import Table


class LogSettings(Table, frozen=True):
    """Lines for each request."""

    requests: bool = True
    """One line `request_finished` for each request, however it ends: who, where, why, tokens, times, cost; no text."""

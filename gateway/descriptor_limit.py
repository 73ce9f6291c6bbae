"""How many files and sockets the process may have open at once (RLIMIT_NOFILE)."""

import resource

from config.model.settings import Settings

_OTHERS = 256
"""Listeners, databases, engines' files and processes, connections of the admin API."""


def descriptors_needed(settings: Settings) -> int:
    """With as many connections of clients and calls of upstreams as the settings permit."""
    server = settings.server
    calls = sum(upstream.concurrent for upstream in settings.upstreams.values())
    return server.max_connections + server.probe_connections + calls + _OTHERS


def allow_descriptors(needed: int) -> int:
    """How many there may be: the soft limit is raised, if need be, as far as the hard one permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed

"""Everything that faces users: HTTP server, endpoints, wire formats, telemetry, command line."""

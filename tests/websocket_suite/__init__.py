"""The cases of Autobahn's suite against the WebSocket layer, behind an echo endpoint."""

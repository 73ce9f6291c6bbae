"""The handlers of the HTTP and WebSocket addresses.

Public: `routes.Routes` and `admin_guard.AdminRoutes`, which choose the handler.
"""

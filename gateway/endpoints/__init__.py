"""The handlers of the HTTP and WebSocket addresses.

Public: `routes.Routes` and `admin_routes.AdminRoutes`, which choose the handler.
"""

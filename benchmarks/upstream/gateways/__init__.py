"""The gateways: how each is installed, started, measured and ended."""

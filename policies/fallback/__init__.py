"""The fallback ladder: what is tried next when something fails, retries, circuit breakers, and the final verdict."""

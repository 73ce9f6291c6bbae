"""API keys, quotas, budgets and prices. Usage is reserved before a request runs and settled after it."""

"""Keys, quotas, budgets and prices: what a tenant may use, reserved before and settled after."""

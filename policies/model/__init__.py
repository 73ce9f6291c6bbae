"""What decisions are made of: a request's features, the live load, the plan."""

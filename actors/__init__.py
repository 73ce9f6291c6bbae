"""The actors: each owns one piece of shared state. A request is a task that sends them messages."""

"""Fair queueing in front of a backend: order, capacity of the engine behind it, and placement on replicas."""

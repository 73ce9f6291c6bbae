"""A run: workers that follow the schedule, what they measure, and the record that it becomes."""

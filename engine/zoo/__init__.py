"""The embedded models: two small Llamas that the project trains itself on generated tasks with exact answers."""

"""The embedded models: two small Llamas, trained by this package on generated tasks with exact answers."""

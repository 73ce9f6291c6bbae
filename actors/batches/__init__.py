"""Batches and the files for them: their SQLite store in a thread, and the actor that has their requests answered."""

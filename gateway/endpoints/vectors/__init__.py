"""The addresses whose answers are made of vectors."""

"""The addresses of files and batches."""

"""One program for each client. It runs with that client's packages, and needs nothing of this repository."""

"""Every request of a run: when it is meant to be sent, and what it asks. Pure; all of it follows from the seed."""

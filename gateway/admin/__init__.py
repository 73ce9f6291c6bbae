"""The admin API: it listens apart from the one that clients use, and takes another class of keys."""

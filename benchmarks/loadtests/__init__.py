"""The load tester itself, against a server of fixed bytes: how many streams and events one core of it can follow."""

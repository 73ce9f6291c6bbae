"""The console: a page for people, and its files as they are sent. There is no build step: `files/` is what runs."""

"""One answer in progress, pure: what is tried, until when, what the client's content commits it to, and how it ends."""

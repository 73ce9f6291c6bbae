"""One answer in progress, pure: attempts, deadlines, the commit point, and how the answer ends."""

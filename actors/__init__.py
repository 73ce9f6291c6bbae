"""One actor a stage of a request's way, the messages between them, and the small kernel that they stand on."""

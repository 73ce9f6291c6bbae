"""What an engine's steps cost on this machine: for `penstock engine profile`, and read by the simulation."""

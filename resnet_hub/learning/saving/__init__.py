"""What outlives a process: runs, checkpoints, and going on from them."""

"""What `drainer status` and `drainer scan` print."""

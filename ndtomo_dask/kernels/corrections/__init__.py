"""What corrections do to a block."""

"""What may be set, and which source of a value wins."""

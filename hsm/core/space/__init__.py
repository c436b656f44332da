"""What is swept: from text to points, one at a time."""

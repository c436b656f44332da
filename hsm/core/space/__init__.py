"""What a sweep runs over: from text to points, one at a time."""

"""What came of a sweep: the journal and the jobs' files as one table."""

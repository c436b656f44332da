"""The results of a sweep: the journal and the jobs' own files as one table."""

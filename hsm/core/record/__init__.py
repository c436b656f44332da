"""A sweep on disk: its journal, lock and files. Nothing here runs a job."""

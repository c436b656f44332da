"""What each job runs: its parameters as variables, its function called in its own process."""

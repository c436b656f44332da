"""Runs jobs, wherever they run: queueing, starting, judging the end, retrying, reporting.

Nothing here deals with pids, forks or /proc: that is the backend's part.
"""

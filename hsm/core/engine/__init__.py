"""Running jobs anywhere: what waits, what starts, how it ended, what follows, who is told.

Nothing here knows of a process, a fork or /proc: that is for a backend to know.
"""

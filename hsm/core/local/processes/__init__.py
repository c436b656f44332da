"""The processes that run jobs on this machine (server, keeper, job), and the launcher's ends."""

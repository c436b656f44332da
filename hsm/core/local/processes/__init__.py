"""The processes of this machine's jobs: server, keeper, job, and the launcher's ends."""

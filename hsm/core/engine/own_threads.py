"""Names of hsm's own threads, by which whoever looks for an app's threads leaves them out."""

from __future__ import annotations

#: They start so. These threads hold no lock that a job's process uses.
OWN_THREADS = "hsm-"

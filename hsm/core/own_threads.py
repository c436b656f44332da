"""How hsm names its own threads, so that a search for the app's threads can skip them."""

from __future__ import annotations

#: Prefix of the names. These threads hold no lock that a job's process uses.
OWN_THREADS = "hsm-"

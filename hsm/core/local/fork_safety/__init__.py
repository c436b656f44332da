"""Whether a fork of the launching process is safe, and what speaks against it."""

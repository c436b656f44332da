"""Deciding whether it is safe to fork the launching process."""

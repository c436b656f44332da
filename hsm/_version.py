"""The version: its only place. The build reads it from here, and so does `hsm.__version__`."""

__version__ = "0.1.0"

"""The command line, `hsm`: one module per command, loaded when that command is used.

Nothing outside this package imports it.
"""

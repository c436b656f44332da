"""The command line, `hsm`: one module per command, imported only when that command runs.

Nothing outside this package imports it.
"""

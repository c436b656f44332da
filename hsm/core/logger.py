"""Loggers whose messages are safe to print on a terminal, wherever the app's logging sends them."""

from __future__ import annotations

import logging

from hsm.core.printable import printable, printable_lines


def get_logger(name: str) -> logging.Logger:
    """Get a logger for a module of hsm that makes messages and tracebacks printable."""
    logger = logging.getLogger(name)
    if not any(isinstance(each, _Printable) for each in logger.filters):
        logger.addFilter(_Printable())
    return logger


def logger_of(library: str) -> logging.Logger:
    """Get the root of a library's own loggers, to configure it: hsm logs nothing there."""
    return logging.getLogger(library)


class _Printable(logging.Filter):
    """Makes records printable before any handler gets them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), None
        if record.exc_info:
            text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_text = printable_lines(text)
        return True

"""Parsing and formatting durations and memory sizes.

    "90s", "30m", "2h"    --parse_duration-->  seconds  --format_duration-->  0.42 s, 42 s, 2:00:00
    "4GB", "512MB"        --parse_size---.
    "1.5GiB", "512MiB"    --parse_size---`-->  bytes    --format_size-->      1.5 GiB, 340 MiB

Sizes are always shown in binary units, like those of the kernel and most tools.
"""

from __future__ import annotations

import re

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
# Compiled on first use, which most Hydra apps never need.
_DURATION = r"([0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?) *([smhd]?)"
_SIZE = r"([0-9]+\.?[0-9]*|\.[0-9]+) *([kmgt]?)(i?)b?"


def parse_duration(text: str) -> float:
    """Parse "90", "1.5", "90s", "30m", "2h" or "1d" into seconds; a plain number is seconds.

    Raises:
        ValueError: any other text.
    """
    match = re.fullmatch(_DURATION, text.strip().lower())
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> float:
    """Parse "512MB", "4GB", "1.5GiB" or "1000" into bytes; a plain number is bytes.

    GB and G are decimal, GiB and Gi binary.

    Raises:
        ValueError: any other text.
    """
    match = re.fullmatch(_SIZE, text.strip().lower())
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    base = 1024 if match[3] else 1000
    return float(match[1]) * float(base ** " kmgt".index(match[2] or " "))


def format_size(size: float) -> str:
    """Format a number of bytes: ``512 B``, ``34 MiB``, ``1.2 GiB``."""
    if size < 1023.5:
        return f"{size:.0f} B"
    amount = size / 1024
    units = iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    unit = next(units)
    while amount >= 1023.5 and (larger := next(units, "")):
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"


def format_duration(seconds: float) -> str:
    """Format a time span: ``0.42 s``, ``7.3 s``, ``42 s``; a minute or more as `format_clock`."""
    if seconds < 0.995:
        return f"{max(0.0, seconds):.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 59.5 else format_clock(seconds + 0.5)


def format_age(seconds: float) -> str:
    """Format how long ago something was, in one unit: ``42s``, ``3m``, ``2h``, ``5d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def format_clock(seconds: float) -> str:
    """Format a running time like a clock: ``0:07``, ``12:34``, ``1:02:03``, ``3d 04:05:06``."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02}:{minute:02}:{second:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"

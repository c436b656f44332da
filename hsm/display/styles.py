"""The styles of the live view, and what its lines are made of."""

from __future__ import annotations

from rich.style import Style

GREEN = Style(color="green")
RED = Style(color="red")
YELLOW = Style(color="yellow")
CYAN = Style(color="cyan")
BOLD = Style(bold=True)
BOLD_RED = Style(color="red", bold=True)
DIM = Style(dim=True)

Span = tuple[str, "Style | None"]
Line = list[Span]

"""Which of a library's metrics are reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hsm.core.program.reporting import report

#: What the step says already; as a value it has no name to be reported by.
_STEP = "step"


class ChosenMetrics:
    """Reports some of the metrics that a library logs.

    Args:
        metrics: their names, or one name; None for all.
    """

    def __init__(self, metrics: str | Iterable[str] | None) -> None:
        names = [metrics] if isinstance(metrics, str) else metrics
        self._names = None if names is None else tuple(names)
        self._logged: dict[str, None] = {}  # the names of all that were, in their order
        self.has_reported = False

    def report(self, logged: Mapping[str, Any], step: int) -> None:
        """Report what is chosen of `logged`."""
        self._logged.update(dict.fromkeys(logged))
        names = logged if self._names is None else self._names
        values = {name: logged[name] for name in names if name in logged and name != _STEP}
        if values:
            report(step=step, **values)
            self.has_reported = True

    def check(self) -> None:
        """Raise ValueError if names were chosen and none of them was logged, so misspelt."""
        if self._names is not None and not self.has_reported:
            chosen, logged = ", ".join(self._names), ", ".join(self._logged) or "nothing"
            raise ValueError(f"HsmCallback: nothing was logged as {chosen}; logged: {logged}")

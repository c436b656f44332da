"""Jobs of somebody who is found only when the sweep begins."""

from __future__ import annotations

from collections.abc import Callable

from hsm.core.engine.asking import Asking
from hsm.core.engine.interrupts import Interrupts


class BegunLate:
    """An `Asking` that is made when it begins, by when signals are caught.

    Args:
        make: makes it.
        has_failed: called if it could not begin.
    """

    def __init__(self, make: Callable[[], Asking], has_failed: Callable[[], None]) -> None:
        self._make, self._has_failed = make, has_failed
        self._asking: Asking | None = None

    def begin(self, interrupts: Interrupts) -> None:
        """See `Asking.begin`."""
        try:
            self._asking = self._make()
            self._asking.begin(interrupts)
        except BaseException:
            self._has_failed()
            raise

    def run(self, interrupts: Interrupts) -> None:
        """See `Asking.run`."""
        assert self._asking is not None, "it has begun"
        self._asking.run(interrupts)

    @property
    def job_ids(self) -> list[str]:
        """Those of all jobs that were asked for."""
        return [] if self._asking is None else self._asking.job_ids

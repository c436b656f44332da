"""What is known of all GPUs at a moment, and whether anybody looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hsm.core.gpu.view import Seen, Watching

#: Seconds after which a first look that does not come is not waited for: a driver that hangs is
#: given up after ten.
_FIRST_LOOK = 15.0


@dataclass
class Sight:
    """What is known of all GPUs at a moment.

    Attributes:
        now: the time; monotonic.
        view: the latest look; None before the first one, and where nobody looks.
        is_blind: whether nobody looks.
    """

    now: float
    view: Seen | None
    is_blind: bool


class Lookout:
    """Knows the latest look, if anybody looks. Not thread-safe.

    Args:
        watch: looks at the GPUs; None if nobody can.
        clock: the time, in monotonic seconds.
    """

    def __init__(self, watch: Watching | None, clock: Callable[[], float]) -> None:
        self._watch = watch
        self._clock = clock
        self._began: float | None = None  # when looking was begun
        self._was_seen = False  # whether there has been a look

    def begin(self) -> None:
        """Have looks taken from now on. Idempotent."""
        if self._watch is not None and self._began is None:
            self._began = self._clock()
            self._watch.begin()
            self._watch.ask()  # Whatever jobs wait for: without a first look it counts as hung.

    def ask(self, sight: Sight) -> None:
        """Have a look taken soon, unless nobody looks."""
        if self._watch is not None and not sight.is_blind:
            self._watch.ask()

    def sight(self) -> Sight:
        """What is known now."""
        now, watch = self._clock(), self._watch
        view = None if watch is None else watch.latest
        self._was_seen = self._was_seen or view is not None
        is_late = self._began is not None and now > self._began + _FIRST_LOOK
        is_blind = watch is None or bool(watch.gone) or (is_late and not self._was_seen)
        return Sight(now, None if is_blind else view, is_blind=is_blind)

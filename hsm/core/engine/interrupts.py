"""Ctrl-C, SIGTERM and SIGHUP while the main thread waits for jobs.

The first signal shuts the jobs down cleanly, the second kills them, see `SweepSource.interrupt`.
A signal that a wrapper passes on, which the terminal has sent to all processes, is not the second.
The handlers only put the signal's number into a queue: a handler runs between any two instructions
of the main thread, where hardly anything else is safe.

Python runs handlers in the main thread, but the kernel may deliver the signal to any thread (after
a Ctrl-Z and `kill`, say), which does not wake a main thread that is waiting for a lock. So the
main thread waits for a descriptor that the interpreter writes to whichever thread gets the signal.
"""

from __future__ import annotations

import math
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol

from hsm.core.at_fork import in_child
from hsm.core.own_sockets import own_pair
from hsm.core.record.signal_names import signal_name

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds after a signal in which `uv run`, `srun` or make may pass on the same one, or SIGTERM.
_BURST = 0.5


class Interruption(NamedTuple):
    """What ended a sweep early: a signal, a lost journal or, if neither is set, `hsm cancel`.

    Attributes:
        signum: the signal; None if there was none.
        lost: why the sweep's journal can no longer be written; "" if it can.
    """

    signum: int | None = None
    lost: str = ""

    @property
    def cause(self) -> str:
        """``"SIGINT"``, ``"cancel"`` or ``"lost"``."""
        if self.lost:
            return "lost"
        return "cancel" if self.signum is None else signal_name(self.signum)

    @property
    def reason(self) -> str:
        """One line: ``"interrupted by SIGINT"``, ``"cancelled"``, or why the journal was lost."""
        if self.lost:
            return self.lost
        return "cancelled" if self.signum is None else f"interrupted by {self.cause}"

    @property
    def headline(self) -> str:
        """For people: ``"Interrupted by SIGINT"``, ``"Cancelled"``, or ``"Stopped: …"``."""
        if self.lost:
            return f"Stopped: {self.lost}"
        return self.reason[0].upper() + self.reason[1:]

    @property
    def exit_code(self) -> int:
        """For a program that does nothing but the sweep; a cancel counts as a SIGTERM."""
        if self.lost:
            return 1
        return 128 + (signal.SIGTERM if self.signum is None else self.signum)


class Interruptible(Protocol):
    """Something to wait for and interrupt: a `SweepSource`."""

    interruption: Interruption | None

    def when_ended(self, job_ids: Sequence[str] | None, callback: Callable[[], None]) -> object: ...

    def interrupt(self, interruption: Interruption) -> None: ...


#: An event during a wait: a signal, the end of the job with this id or, as None, of all jobs.
_Event = Interruption | str | None


class Burst:
    """Signals that arrive shortly after a first one, and count as one with it.

    Their time is measured from the first, so whoever goes on pressing Ctrl-C is heard.
    """

    def __init__(self) -> None:
        self._until = -math.inf

    def begin(self) -> None:
        """A first signal arrives."""
        self._until = time.monotonic() + _BURST

    def has(self) -> bool:
        """Whether a signal that arrives now belongs to it; if not, that is another's first."""
        if time.monotonic() < self._until:
            return True
        self.begin()
        return False

    def wait(self) -> None:
        """Return when it is over."""
        time.sleep(max(0.0, self._until - time.monotonic()))


#: The latest burst of signals to this process, whoever handled the first of them.
burst = Burst()


class _Handler:
    """Passes signals on, a burst as one. `replaced` is the previous handler: jobs get it back."""

    def __init__(self, hear: Callable[[int], None], replaced: Any) -> None:
        self.hear = hear
        self.replaced = replaced

    def __call__(self, number: int, frame: object) -> None:
        if not burst.has():
            self.hear(number)


class _Waker:
    """A descriptor to wait for; any signal makes it readable, whichever thread gets the signal."""

    def __init__(self) -> None:
        self._woken, self._waker = own_pair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._replaced: int | None = None
        if threading.current_thread() is threading.main_thread():
            fd = self._waker.fileno()
            self._replaced = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        in_child(self, _Waker._forget)

    def wait(self) -> None:
        """Return once there has been a signal or a `wake` since the last call."""
        self._poll.poll()
        with suppress(BlockingIOError):
            self._woken.recv(512)

    def wake(self) -> None:
        """May be called from any thread, even if nobody is waiting any more."""
        with suppress(OSError):  # BlockingIOError: the buffer is full, so `wait` returns anyway
            self._waker.send(b"\0")

    def close(self) -> None:
        if self._replaced is not None:
            signal.set_wakeup_fd(self._replaced)
        self._free()

    def _forget(self) -> None:
        """In a forked child, hsm's or anyone's: its signals must not wake the launcher."""
        if self._woken.fileno() >= 0:
            signal.set_wakeup_fd(-1)
            self._free()

    def _free(self) -> None:
        self._woken.close()
        self._waker.close()


class Interrupts:
    """Collects signals inside a `caught` block. Outside the main thread it collects none.

    Attributes:
        first: the first signal's number; None if there was none.

    Args:
        heard: the number of a signal that came earlier.
    """

    def __init__(self, heard: int | None = None) -> None:
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self.first: int | None = None
        self._count = 0  # of signals
        self._are_raised = False
        if heard is not None:
            self._hear(heard)

    def _hear(self, number: int) -> None:
        if self.first is None:
            self.first = number
        self._events.put(Interruption(number))
        self._count += 1
        if self._are_raised:
            raise KeyboardInterrupt

    @contextmanager
    def caught(self) -> Iterator[Interrupts]:
        """Install the handlers. Ignored signals (nohup, a background job) stay ignored.

        After a signal, the end of the block waits until the same one is no longer expected again,
        unless it gives signals back to handlers of hsm's own.
        """
        before: dict[int, Any] = {}
        is_main = threading.current_thread() is threading.main_thread()
        try:
            for number in map(int, SIGNALS if is_main else ()):
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:
                    before[number] = handler
                    signal.signal(number, _Handler(self._hear, handler))
            yield self
        finally:
            if not all(hasattr(handler, "replaced") for handler in before.values()):
                burst.wait()
            # SIGINT, the first, comes last: its usual handler raises.
            for number, handler in reversed(before.items()):
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Have a signal end the block, which is not hsm's own code, by a KeyboardInterrupt."""
        before = self._count
        try:
            self._are_raised = True
            yield
        except KeyboardInterrupt:
            if self._count == before:
                raise
        finally:
            self._are_raised = False

    def wait(
        self,
        source: Interruptible,
        job_ids: Sequence[str] | None,
        each_ended: Callable[[str], None] | None = None,
    ) -> Interruption | None:
        """Wait until the jobs have ended; return what interrupted them, or None.

        Args:
            source: what runs them.
            job_ids: the jobs; None for all.
            each_ended: called here with the id of each of `job_ids` when that job has ended.
        """
        waker = _Waker()

        def ended(event: str | None) -> None:
            self._events.put(event)
            waker.wake()

        waiting = dict.fromkeys(job_ids or () if each_ended is not None else ())
        try:
            for job_id in waiting:
                source.when_ended([job_id], partial(ended, job_id))
            source.when_ended(job_ids, partial(ended, None))
            all_ended = False
            while waiting or not all_ended:
                event = self._next(waker)
                if isinstance(event, Interruption):
                    source.interrupt(event)
                elif event is None:
                    all_ended = True
                elif each_ended is not None:
                    del waiting[event]
                    each_ended(event)
        finally:
            waker.close()
        return source.interruption

    def late(self) -> Interruption | None:
        """A signal that came after `wait` returned; None if there was none."""
        with suppress(Empty):
            while True:
                event = self._events.get_nowait()
                if isinstance(event, Interruption):
                    return event
        return None

    def within(self, seconds: float) -> Interruption | None:
        """The next signal if one comes within `seconds`, else None."""
        with suppress(Empty):
            event = self._events.get(timeout=seconds)
            return event if isinstance(event, Interruption) else None
        return None

    def _next(self, waker: _Waker) -> _Event:
        """Wait for the next event."""
        while True:
            with suppress(Empty):
                return self._events.get_nowait()
            waker.wait()


@contextmanager
def deferred() -> Iterator[Interrupts]:
    """Let signals that come in this block have their effect after it, once. Also a decorator.

    Raises SystemExit, or what the signal's handler raises, such as KeyboardInterrupt.
    """
    with Interrupts().caught() as interrupts:
        yield interrupts
    if interrupts.first is not None:
        deliver(interrupts.first)


def keyboard_interruption() -> Interruption:
    """The interruption that Python has raised here as KeyboardInterrupt, with no handler of hsm's.

    From now on, the same Ctrl-C is not taken for a second one.
    """
    burst.begin()
    return Interruption(signal.SIGINT)


def deliver(signum: int) -> None:
    """Raise a signal again, now that its original handler is back in place.

    Raises:
        SystemExit: the signal has no Python handler.
    """
    handler = signal.getsignal(signum)
    if isinstance(handler, _Handler):
        handler.hear(signum)  # Not as a signal, which would begin another burst.
    elif callable(handler):
        signal.raise_signal(signum)
    else:
        raise SystemExit(128 + signum)

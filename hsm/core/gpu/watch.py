"""Looking at the GPUs about once a second, in a thread, while jobs have any."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hsm.core.gpu.gpu_tally import Tally
from hsm.core.gpu.gpu_view import GpuView, Holder, drawn, holders, pids_not_here, reading_key
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.own_processes import drivers_pids_are_ours
from hsm.core.gpu.probe import GpuProbe, GpuReading, ProbeGone
from hsm.core.logger import get_logger
from hsm.core.own_threads import OWN_THREADS

log = get_logger(__name__)

#: Seconds between looks while jobs have GPUs; and between looks that are asked for.
INTERVAL, ASKED_INTERVAL = 1.0, 0.1
#: A look follows another only after so many times as long as that one took: however slow a driver
#: is, asking it takes a quarter of a core at most.
_PAUSE_FACTOR = 3
#: Seconds for which what was in use before a job stands for what is in use without it.
_LONGEST_BEFORE = 10.0
#: Seconds that `close` waits for the thread; it is a daemon, and ends with the process at last.
_CLOSE_TIMEOUT = 5.0


class _Due(NamedTuple):
    """When the next look is due (monotonic)."""

    by_itself: float = 0.0
    if_asked: float = 0.0


class GpuWatch:
    """Knows what a driver last said, and sums it up for each job. Thread-safe.

    Attributes:
        changed: called after each look, in the thread that has looked, with no lock held.

    Args:
        probe: what asks the driver; closed with this.
        notice: shows people a one-line text.
        clock: `time.monotonic`, or a test's.
        has_drivers_pids: whether drivers know processes here by their pids; or a test's.
    """

    def __init__(
        self,
        probe: GpuProbe,
        notice: Callable[[str], object],
        *,
        changed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        has_drivers_pids: Callable[[], bool] = drivers_pids_are_ours,
    ) -> None:
        self.changed = changed
        self._probe = probe
        self._notice = notice
        self._clock = clock
        self._has_drivers_pids = has_drivers_pids
        self._looking = threading.Lock()  # held during a look, and guards these two
        self._has_said_doubts = False
        self._missing: set[int] = set()  # pids in the last look without a process
        self._news = threading.Condition()  # guards what follows
        self._latest: GpuView | None = None
        self._tallies: dict[GpuGrant, Tally] = {}
        self._left: dict[str, float] = {}  # by Gpu.key, when a job last left a GPU
        self._due = _Due()
        self._is_asked = False
        self._thread: threading.Thread | None = None
        self._gone = ""
        self._is_closed = False

    @property
    def latest(self) -> GpuView | None:
        """What the last look has found; None before the first, and once the probe is gone."""
        return self._latest

    @property
    def gone(self) -> str:
        """Why there will be no more looks; empty while there may be."""
        return self._gone

    def begin(self) -> None:
        """Start the thread, once. If there can be none now, the next `ask` tries again."""
        with self._news:
            self._begin()

    def _begin(self) -> None:
        if self._thread is None and not self._gone and not self._is_closed:
            thread = threading.Thread(target=self._run, name=f"{OWN_THREADS}gpus", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there are too many
                return
            self._thread = thread

    def ask(self) -> None:
        """Have a look taken soon that begins after this call. Does not wait for it."""
        with self._news:
            self._is_asked = True
            self._begin()
            self._news.notify_all()

    def job_began(self, grant: GpuGrant) -> None:
        """A job has got `grant`, and is about to start: keep that up to date from now on."""
        with self._news:
            now = self._clock()
            tally = Tally(grant, now, self._used_before(grant, now))
            mine = {gpu.key for gpu in grant.gpus}
            for other in self._tallies.values():
                if any(gpu.key in mine for gpu in other.grant.gpus):
                    other.meets(f"job {grant.job}")
                    tally.meets(f"job {other.grant.job}")
            self._tallies[grant] = tally
            self._begin()
            self._news.notify_all()

    def _used_before(self, grant: GpuGrant, now: float) -> Mapping[str, int]:
        """Bytes in use at the last look, by `Gpu.key`, where no job was on a GPU at that look."""
        view = self._latest
        if view is None or view.time < now - _LONGEST_BEFORE:
            return {}
        taken = {gpu.key for tally in self._tallies.values() for gpu in tally.grant.gpus}
        return {
            gpu.key: reading.used
            for gpu in grant.gpus
            if gpu.key not in taken
            and self._left.get(gpu.key, view.time) <= view.time
            and (reading := view.reading(gpu)) is not None
            and reading.used is not None
        }

    def job_ended(self, grant: GpuGrant) -> None:
        """The processes of the job that had `grant` are gone: what is in it stays as it is."""
        with self._news:
            self._tallies.pop(grant, None)
            for gpu in grant.gpus:
                self._left[gpu.key] = self._clock()

    def look(self) -> GpuView | None:
        """Look now, in this thread; return what `latest` is then.

        It takes as long as the probe's own `look` may.
        """
        with self._looking:
            if not self._may_look():
                return None
            began = self._clock()
            try:
                readings = self._probe.look()
            except ProbeGone as error:
                self._lose(str(error))
            else:
                self._take(began, readings)
            finally:
                self._plan(began)
        self.changed()
        return self._latest

    def _may_look(self) -> bool:
        return not (self._gone or self._is_closed)

    def _lose(self, why: str) -> None:
        with self._news:
            self._gone, self._latest = why, None
            self._news.notify_all()
        self._probe.close()
        if not self._is_closed:
            self._notice(f"{why}; hsm counts GPUs all the same, but cannot see what runs on them")

    def _take(self, began: float, readings: tuple[GpuReading, ...]) -> None:
        """Take in what a look that began at `began` has found."""
        missing = pids_not_here(readings)
        doubts = self._doubts(readings, missing) if readings else ""
        if doubts and not self._has_said_doubts:
            self._has_said_doubts = True
            self._notice(f"GPUs: {doubts}; whether one is free is told by its memory alone")
        with self._news:
            grants = list(self._tallies)
        found, drawing = dict[str, tuple[Holder, ...]](), dict[str, int]()
        if not doubts:
            for reading in readings:
                found[reading_key(reading)] = holders(reading, grants, self._missing)
                drawing[reading_key(reading)] = drawn(reading)
        self._missing = missing
        by_key = {reading_key(reading): reading for reading in readings}
        view = GpuView(began, by_key, not doubts, found, drawing)
        with self._news:
            self._latest = view
            for tally in self._tallies.values():
                tally.note(view)

    def _doubts(self, readings: tuple[GpuReading, ...], missing: set[int]) -> str:
        """Why nobody knows whose the processes on GPUs are; empty if it is known.

        Args:
            readings: what the driver says.
            missing: the pids in it without a process.
        """
        if not self._has_drivers_pids():
            return "in a container, the driver's process ids say nothing"
        if not all(reading.processes_known for reading in readings if not reading.fault):
            return "the driver does not tell which processes are on them"
        named = {process.pid for reading in readings for process in reading.processes}
        if missing == named and missing & self._missing:  # more than a process that has just ended
            return "there are no processes with the ids that the driver names"
        return ""

    def _plan(self, began: float) -> None:
        """Plan the next look after one that began at `began`."""
        now = self._clock()
        earliest = now + _PAUSE_FACTOR * (now - began)
        with self._news:
            self._due = _Due(
                max(earliest, began + INTERVAL),
                max(earliest, began + ASKED_INTERVAL),
            )

    def _run(self) -> None:
        """Look whenever it is time to; the thread's loop."""
        was_logged = False
        while self._waits_for_turn():
            try:
                self.look()
            except Exception:  # a bug in hsm: without this thread jobs would wait for ever
                if not was_logged:
                    log.exception("a look at the GPUs failed; hsm goes on looking")
                was_logged = True

    def _waits_for_turn(self) -> bool:
        """Wait until it is time for a look; False if there will be none."""
        with self._news:
            while self._may_look():
                due = None
                if self._is_asked:
                    due = self._due.if_asked
                elif self._tallies:
                    due = self._due.by_itself
                now = self._clock()
                if due is not None and due <= now:
                    self._is_asked = False
                    return True
                self._news.wait(None if due is None else due - now)
        return False

    def close(self) -> None:
        """Stop looking, and close the probe. Idempotent; takes seconds at most."""
        with self._news:
            self._is_closed, self._latest = True, None
            thread = self._thread
            self._news.notify_all()
        self._probe.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_TIMEOUT)

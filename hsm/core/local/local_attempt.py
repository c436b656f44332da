"""One attempt of a job on this machine: it runs in a slot of a fork server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hsm.core.engine.backend import (
    Attempt,
    CannotStart,
    Ended,
    JobLost,
    Launch,
    NoRoom,
    PlaceGone,
    Started,
    Usage,
)
from hsm.core.local.memory import Memory
from hsm.core.local.oom import KILLED, OomKills
from hsm.core.local.processes.leftovers import kill_leftovers
from hsm.core.local.processes.messages import Reaped
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.local.processes.slot import KeeperStuck, Slot, SlotLost
from hsm.core.record.signal_names import signal_name


class LocalAttempt(Attempt):
    """See `Attempt`.

    Args:
        launch: what to run.
        server: the slot's fork server, which gets the slot back at the end.
        slot: a free slot to run it in.
        memory: watches the job's memory.
        clean: called at the end: frees what the job had of the machine, its temporary files.
        facts: where a job that cannot send the facts of its report leaves them.
    """

    def __init__(
        self,
        launch: Launch,
        server: ForkServer,
        slot: Slot,
        memory: Memory,
        clean: Callable[[], None],
        facts: Path | None = None,
    ) -> None:
        self._launch = launch
        self._server = server
        self._slot = slot
        self._memory = memory
        self._clean = clean
        self._facts = facts
        self._pid: int | None = None
        self._mutex = threading.Lock()  # guards the next three
        self._has_job = False  # whether the slot has the job
        self._was_asked = False  # whether `end` was called before the memory limit was exceeded
        self._memory_reason: str | None = None  # set if the job is ended because of its memory
        self._has_slot = True  # false once the slot is lost or given back
        self._kills_before = OomKills.lately()

    def start(self) -> None:
        try:
            # Threads of this process change the grant, which must not be while it is pickled.
            self._slot.start(self._launch._replace(grant=None))
        except PlaceGone:  # the slot's keeper died while idle
            self._drop_slot()
            raise
        self._has_job = True

    def started(self) -> Started:
        try:
            started = self._slot.started()
        except (NoRoom, PlaceGone):
            self._drop_slot()  # its keeper takes up room as well, or is gone
            raise
        except CannotStart:
            self._job_has_left()
            raise
        except SlotLost as error:
            raise self._lost(error) from error
        assert started.pid is not None
        self._pid = started.pid
        if self._launch.grant is not None:
            # All processes of the job are below its keeper, daemons included.
            self._launch.grant.root = self._slot.keeper
        self._memory.watch(started.pid, self._end_for_memory)
        return started

    def ended(self, deadline: float | None) -> Ended | None:
        try:
            reaped = self._slot.ended(deadline)
        except SlotLost as error:
            raise self._lost(error) from error
        if reaped is None:
            return None
        self._job_has_left()
        return self._describe(reaped)

    def end(self, grace: float) -> None:
        with self._mutex:
            self._was_asked = self._was_asked or self._memory_reason is None
            if self._has_job:
                self._slot.end(grace)

    def pause(self) -> None:
        self._pause(is_on=True)

    def unpause(self) -> None:
        self._pause(is_on=False)

    def _pause(self, *, is_on: bool) -> None:
        with self._mutex:
            if self._has_job:
                self._slot.pause(is_on=is_on)

    def usage(self) -> Usage:
        pid = self._pid
        return (None, None) if pid is None else self._memory.usage(pid)

    def close(self) -> None:
        try:
            if self._has_job:
                # Only after a bug in hsm: the job is still running, and no code watches it.
                self._slot.end_at_once()
                self._drop_slot()
            elif self._has_slot:
                self._server.give_back(self._slot)
        finally:
            self._peak_memory()
            self._take_facts()
            self._clean()

    def _end_for_memory(self, reason: str) -> None:
        with self._mutex:
            if self._has_job and not self._was_asked:
                self._memory_reason = self._memory_reason or reason
                # SIGKILL at once: during a grace period it could use up all memory.
                self._slot.end(0.0)

    def _job_has_left(self) -> None:
        """Note that the slot is free again."""
        with self._mutex:
            self._has_job = False
        if self._launch.grant is not None:
            self._launch.grant.root = None  # the keeper's next job is another one

    def _drop_slot(self) -> None:
        """Give up the lost slot."""
        self._job_has_left()
        self._has_slot = False
        self._server.drop(self._slot)

    def _lost(self, error: SlotLost) -> JobLost:
        self._drop_slot()
        kill_leftovers(self._launch.env, self._slot.keeper)
        if isinstance(error, KeeperStuck):
            return JobLost(str(error))
        victim = "its keeper" if self._server.is_alive() else "the fork server"
        return JobLost(f"{victim} was killed, and the job with it")

    def _peak_memory(self) -> int:
        """Stop watching the job's memory; return the highest sample in bytes, 0 if none."""
        pid, self._pid = self._pid, None
        return 0 if pid is None else self._memory.forget(pid)

    def _take_facts(self) -> bytes | None:
        path, self._facts = self._facts, None
        if path is not None:
            with suppress(OSError):  # there are none, or somebody cleans up temporary files
                facts = path.read_bytes()
                path.unlink()
                return facts
        return None

    def _describe(self, reaped: Reaped) -> Ended:
        code = os.waitstatus_to_exitcode(reaped.status)
        exit_code, signal = (code, None) if code >= 0 else (None, signal_name(-code))
        out_of_memory = self._memory_reason if reaped.asked else None
        if code in KILLED and out_of_memory is None:
            out_of_memory = self._kills_before.since().reason(exit_code)
        return Ended(
            exit_code,
            signal,
            asked=reaped.asked and self._was_asked,
            cpu_seconds=reaped.cpu_seconds,
            max_memory=max(reaped.max_memory, self._peak_memory()),
            out_of_memory=out_of_memory,
            report=reaped.report or self._take_facts(),
            lost=reaped.lost,
            has_links=reaped.has_links,
        )

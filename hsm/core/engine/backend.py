"""The contract between the engine and a backend, a place where jobs run.

    expect(how many jobs)
    prepare(function) --> Work: what jobs do, and how the place runs it
    attempt(work, launch) --> Attempt
        start() --> started() --> ended(), perhaps after end(grace) --> close()

The engine decides which job runs, when it has run too long, what its end means and what follows;
it writes the journal and notifies observers. A backend starts processes somewhere, ends them, and
reports how they ended. The two share a file system: logs and reports are files of the sweep.

A job has not failed as long as it has no process. A backend that lacks something which others may
give back (processes, descriptors, threads, memory, disk space) raises NoRoom, and the engine asks
again later: see `hsm.core.engine.admission`, and `obstacle`, which reads an error of the system so.

Any thread may call any method, and several attempts may be in use at once. Only two waits are
unbounded: for a job's own end, and until the place is ready. Whatever happens to the place (it
hangs, is stopped, is killed), every other method returns in bounded time or raises one of the
errors below.

If the launcher dies, everything that a backend has started on this machine ends soon afterwards,
without the launcher's help.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hsm.core.errors import HsmError

if TYPE_CHECKING:
    from hsm.core.gpu.grant import GpuGrant
    from hsm.core.gpu.pool import GpuPool
    from hsm.core.gpu.visible import FoundGpus
    from hsm.core.program.kept_script import KeptScript
    from hsm.core.program.refused_arguments import RefusalJudge
    from hsm.core.record.job_folder import JobFolder
    from hsm.core.record.journal import Journal
    from hsm.core.settings.spelling import Spelling

#: CPU (percent of one core) and memory (bytes) of all processes of a job; None: unknown.
Usage = tuple[float | None, int | None]

_recording = threading.Lock()  # guards `Work._recorded` of all works


class CannotStart(HsmError):
    """No process can be started for this job; says why. Other jobs may be more lucky."""


class NoRoom(CannotStart):
    """No process can be started now. Nothing was: ask again later."""


class NothingStarts(CannotStart):
    """No process can be started for any job, and waiting would not help."""


class PlaceGone(HsmError):
    """The place for an attempt is gone and nothing was started there: ask for another."""


class JobLost(HsmError):
    """The job was killed along with the process that supervised it; nothing of it is left."""


class Work:
    """What jobs do: call a function with their argument, or exec a command.

    No dataclass: fork servers import this module, and need `dataclasses` for nothing else.

    Attributes:
        function: the function, for Python jobs.
        command: the command's words, for other jobs.
        script: the Python script that the command runs, if it runs one.
        refusals: tells whether the command refused its arguments, if hsm wrote them.
        how: how the place runs the function or script, for the journal; a new mapping whenever that
            changes. None if there is nothing to record.
    """

    __slots__ = ("_recorded", "command", "function", "how", "refusals", "script")

    def __init__(
        self,
        function: Callable[[Any], Any] | None = None,
        command: tuple[str, ...] | None = None,
        script: KeptScript | None = None,
        refusals: RefusalJudge | None = None,
    ) -> None:
        self.function = function
        self.command = command
        self.script = script
        self.refusals = refusals
        self.how: Mapping[str, Any] | None = None
        self._recorded: dict[Journal, Mapping[str, Any]] | None = None

    def record_how(self, journal: Journal) -> None:
        """Write to `journal` how the place runs the function, unless it is there already.

        Raises:
            OSError, JournalLost: see `Journal.append`.
        """
        how = self.how
        if how is None:  # as of every command, of which there may be very many
            return
        with _recording:
            recorded = self._recorded = self._recorded or {}
            if recorded.get(journal) is how:
                return
            recorded[journal] = how
        journal.append("server", keep=True, **how)


class Launch(NamedTuple):
    """How to start a job's process.

    Attributes:
        num: the job's number in its sweep.
        env: variables to set on top of the launcher's environment. The backend adds a TMPDIR.
        root: the sweep's directory.
        stdout, stderr: log files below `root`, in one directory. The backend appends every byte.
        header: a line to write to both logs first; None for the first attempt.
        cwd: working directory.
        command: what to exec; None to call the work's function. A program that is missing (not
            executable) counts as ended with exit code 127 (126), and stderr gets a line
            ``hsm: <program>: <reason>``.
        log_limit: how many bytes of what the attempt prints to each log to keep, see
            `hsm.core.record.cut_logs`; None for all.
        script: the Python script that `command` runs, if it runs one, as the sweep has read it; the
            backend executes `script.command(command, <a directory of its own>)` instead.
        argument: the function's argument, pickled.
        result: where the process writes its report, see `hsm.core.program.reports`.
        grace: seconds between SIGTERM and SIGKILL for processes that the job leaves behind.
        cpus: for a backend's own use: the CPUs that the job may run on; empty for any.
        grant: the GPUs that the job has. The backend sets its `root`; `env` has its variables.
        folder: for a backend that `makes_folders`: the job's directory, if that is known.
    """

    num: int
    env: dict[str, str]
    root: str
    stdout: str
    stderr: str
    cwd: str
    command: tuple[str, ...] | None
    argument: bytes | None
    result: str
    grace: float
    header: str | None = None
    log_limit: int | None = None
    script: KeptScript | None = None
    cpus: tuple[int, ...] = ()
    grant: GpuGrant | None = None
    folder: JobFolder | None = None


class Started(NamedTuple):
    """The job has a process.

    Attributes:
        pid: the process's pid on this machine, for the journal; None if it runs elsewhere.
        log_sizes: byte offsets in the stdout and stderr logs at which this attempt's output
            begins: at its header if it has one, always at the start of a line then.
    """

    pid: int | None
    log_sizes: tuple[int, int] = (0, 0)


class Ended(NamedTuple):
    """How a job's process ended. It is gone, and so is everything it left behind.

    Attributes:
        exit_code: None if a signal ended it.
        signal: that signal's name, e.g. ``"SIGKILL"``.
        asked: whether `Attempt.end` was called while the job was still running, and so may be why
            it ended.
        cpu_seconds: user and system time of all its processes; None if unknown.
        max_memory: peak memory of all its processes, in bytes; None if unknown.
        out_of_memory: why this counts as running out of memory, in one line; None if it does not.
        report: the function's report if the process sent it directly, see `reports.write`;
            otherwise the engine reads it from the file.
        lost: which output is missing from the logs, and why; None if none is.
        has_links: whether the directory of its `Launch` has got its links.
    """

    exit_code: int | None
    signal: str | None = None
    asked: bool = False
    cpu_seconds: float | None = None
    max_memory: int | None = None
    out_of_memory: str | None = None
    report: bytes | None = None
    lost: str | None = None
    has_links: bool = False


class Attempt(Protocol):
    """One attempt of one job, opaque to the engine: a process, a task of an allocation, a step.

    The engine calls `start` once; if that succeeds, `started`, and then `ended` until it returns an
    `Ended`. It may call `end` from any thread at any time after `start`, and `usage` at any time.
    It always calls `close`, once, when `end` can no longer be called.
    """

    def start(self) -> None:
        """Start the job; `started` reports how that went. Must not wait: the caller holds a lock.

        Slow steps, such as a fork, may be left to `started`.

        Raises:
            PlaceGone: nothing was started.
        """

    def started(self) -> Started:
        """Wait until the job has a process.

        Raises:
            CannotStart: it gets none; see there.
            PlaceGone: nothing was started.
            JobLost.
        """

    def ended(self, deadline: float | None) -> Ended | None:
        """How the job ended; None if it is still running at `deadline` (`time.monotonic()`).

        After a call of `end`, this returns or raises soon after the grace given there is over.

        Raises:
            JobLost.
        """

    def end(self, grace: float) -> None:
        """End everything the job has started: SIGTERM now, SIGKILL `grace` seconds later.

        Returns at once. May be called again to shorten the grace, and after the job has ended.
        """

    def pause(self) -> None:
        """Have everything that the job has started stand still. Returns at once.

        A paused job that is ended goes on after its SIGTERM.
        """

    def unpause(self) -> None:
        """Let a paused job go on. Returns at once."""

    def usage(self) -> Usage:
        """The job's current CPU and memory use; the sample may be a few seconds old."""
        return None, None

    def close(self) -> None:
        """Free what the attempt holds; if the job is still running, kill all its processes first.

        Raises nothing. May be called after the backend's `close`.
        """


class Backend(Protocol):
    """A place where jobs run.

    Attributes:
        gpus: the GPUs that it gives to jobs; None if it gives none. The backend closes it.
        makes_folders: whether it makes the directories of jobs before they start, and links their
            logs there when they have ended; else the engine does. Places do that side by side.
    """

    gpus: GpuPool | None = None
    makes_folders: bool = False

    def expect(self, jobs: int) -> str | None:
        """Take account of jobs that are submitted now, before `prepare`: not all may run at once.

        Returns:
            One line for people on what each job gets of the place; None if there is nothing to say.
        """
        return None

    def about_gpus(self, jobs: int, params: Collection[str], spelled: Spelling) -> str:
        """One line for people on the GPUs that jobs get or see; empty if there is none to say.

        Asked once for each sweep, after `expect`.

        Args:
            jobs: how many jobs there are at least, as far as they can run at once.
            params: the names of their parameters.
            spelled: writes a setting as who reads the line would set it.
        """
        return ""

    def prepare(
        self, function: Callable[[Any], Any] | None, script: KeptScript | None = None
    ) -> Work:
        """Get ready to run a function (None: commands); the same function gets the same work.

        Args:
            function: the function.
            script: the Python script that the commands run, if a new sweep of one begins: the place
                may do for all jobs at once what each would do.

        The thread that submits the jobs calls this before any of them starts.

        A lack that may pass is no reason to raise: the jobs wait for it.

        Raises:
            HsmError: the place cannot run it.
        """

    def lack(self) -> str:
        """What the place lacks for another job now, in one line; empty if it lacks nothing.

        Asked before each start, and again and again while it lacks something: must not block.
        """
        return ""

    def facts(self) -> dict[str, Any]:
        """What the launch record of a sweep says of the place."""
        return {}

    def found_gpus(self) -> FoundGpus | None:
        """The GPUs from which jobs are given theirs; None if they see what the launcher sees.

        A job that is given none shall see none.
        """
        return None

    def get_ready(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        """Wait until the place is ready for its first jobs.

        A job's thread calls it before `attempt`.

        Args:
            is_wanted: whether the job should still start; check it at least once a second.
            notice: shows people a one-line reason for the wait; call it once per wait.
        """

    def allow(self, jobs: int | str) -> int:
        """Get ready to run another number of jobs at once than the settings said.

        Args:
            jobs: the number, or "auto".

        Returns how many the place will run.
        """

    def attempt(self, work: Work, launch: Launch) -> Attempt:
        """A place for one attempt of a job, with everything the attempt needs.

        Args:
            work: what `prepare` returned. For a command any `Work` will do: `launch.command` is
                what counts.

        Raises:
            CannotStart: there is no place for it; see there.
        """

    def close(self) -> None:
        """End whatever is still running and free everything. Idempotent."""
